// What the screens read: one place for keys and intervals.
import { queryOptions } from "@tanstack/react-query";
import { api, apiOf, dataOf, type Schemas, type View } from "./client";
import { keyOf, pagesOf } from "./pages";

export type Message = Schemas["MessageResponse"];
export type MessageSummary = Schemas["MessageSummary"];
export type Provider = Schemas["ProviderResponse"];
export type Channel = Schemas["Channel"];
export type State = Schemas["State"];
export type Decision = Schemas["DecisionResponse"];

export type Webhook = Schemas["WebhookResponse"];
export type WebhookDelivery = Schemas["WebhookDeliveryResponse"];
export type WebhookStatus = Schemas["WebhookStatus"];
export type ApiKey = Schemas["KeyResponse"];
export type Member = Schemas["MemberResponse"];
export type Invitation = Schemas["InvitationResponse"];
export type AuditEntry = Schemas["AuditEntryResponse"];
export type Template = Schemas["TemplateResponse"];
export type TemplateKind = Schemas["TemplateKind"];
export type Status = Schemas["StatusResponse"];
export type DeadLetter = Schemas["DeadLetterResponse"];
export type Suppression = Schemas["SuppressionResponse"];
export type SuppressionReason = Schemas["SuppressionReason"];

export interface SuppressionFilters {
  channel?: Channel;
  address?: string;
  reason?: SuppressionReason;
}

export type Analytics = Schemas["AnalyticsResponse"];
export type Numbers = Schemas["NumbersResponse"];
export type GroupBy = Schemas["GroupBy"];

export interface AnalyticsFilters {
  days: number;
  channel?: Channel;
  provider?: string;
  tag?: string;
  by?: GroupBy;
}

export interface MessageFilters {
  status?: string;
  channel?: Channel;
  to?: string;
  from?: string;
  tag?: string;
  provider?: string;
  attempted_provider?: string;
  failed_over?: boolean;
  possible_duplicate?: boolean;
  incident?: string;
  template?: string;
  since?: string;
  until?: string;
}

export const meQuery = queryOptions({
  queryKey: ["me"],
  queryFn: () => dataOf(api.GET("/v1/auth/me")),
  staleTime: 60_000,
});

export const webhooksQuery = (view: View) =>
  pagesOf(keyOf(view, "webhooks"), (query, signal) => apiOf(view).GET("/v1/webhooks", { params: { query }, signal }), 5_000);

export const webhookDeliveriesQuery = (view: View, id: string, status?: WebhookStatus) =>
  pagesOf(
    keyOf(view, "webhooks", id, "deliveries", status),
    (page, signal) =>
      apiOf(view).GET("/v1/webhooks/{webhook_id}/deliveries", {
        params: { path: { webhook_id: id }, query: { ...page, status } },
        signal,
      }),
    5_000,
  );

export const suppressionsQuery = (view: View, filters: SuppressionFilters) =>
  pagesOf(keyOf(view, "suppressions", filters), (page, signal) =>
    apiOf(view).GET("/v1/suppressions", { params: { query: { ...filters, ...page } }, signal }),
  );

// What belongs to the project itself is the same in both modes, and its routes name it by its slug.
export const keysQuery = (view: View) =>
  pagesOf(keyOf(view, "keys"), (query, signal) =>
    apiOf(view).GET("/v1/projects/{slug}/keys", { params: { path: { slug: view.project }, query }, signal }),
  );

export const membersQuery = (view: View) =>
  pagesOf(keyOf(view, "members"), (query, signal) =>
    apiOf(view).GET("/v1/projects/{slug}/members", { params: { path: { slug: view.project }, query }, signal }),
  );

export const invitationsQuery = (view: View) =>
  pagesOf(keyOf(view, "members", "invitations"), (query, signal) =>
    apiOf(view).GET("/v1/projects/{slug}/invitations", { params: { path: { slug: view.project }, query }, signal }),
  );

export const auditQuery = (view: View) =>
  pagesOf(keyOf(view, "audit"), (query, signal) => apiOf(view).GET("/v1/audit", { params: { query }, signal }));

export const templatesQuery = (view: View, kind?: TemplateKind) =>
  pagesOf(keyOf(view, "templates", "list", kind), (page, signal) =>
    apiOf(view).GET("/v1/templates", { params: { query: { ...page, kind } }, signal }),
  );

export const templateQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: keyOf(view, "templates", id),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/templates/{template_id}", { params: { path: { template_id: id } }, signal })),
  });

/** Sources that are not saved, rendered. */
export const previewQuery = (view: View, body: Schemas["PreviewSourcesRequest"]) =>
  queryOptions({
    queryKey: keyOf(view, "preview", body),
    queryFn: ({ signal }) => dataOf(apiOf(view).POST("/v1/templates/preview", { body, signal })),
    staleTime: Infinity,
    gcTime: 0,
  });

export const statusQuery = (view: View) =>
  queryOptions({
    queryKey: keyOf(view, "status"),
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/status", { signal })),
    refetchInterval: 5_000,
  });

export const deadLettersQuery = (view: View) =>
  pagesOf(keyOf(view, "dead-letters"), (query, signal) => apiOf(view).GET("/v1/dead-letters", { params: { query }, signal }), 10_000);

/** ``days``: the length of the range that ends now. */
export const analyticsQuery = (view: View, { days, channel, provider, tag, by }: AnalyticsFilters) =>
  queryOptions({
    queryKey: keyOf(view, "analytics", days, channel, provider, tag, by),
    queryFn: ({ signal }) =>
      dataOf(
        apiOf(view).GET("/v1/analytics", {
          params: {
            query: {
              from: new Date(Date.now() - days * 86_400_000).toISOString(),
              channel,
              provider,
              tag,
              group_by: by ? [by] : [],
            },
          },
          signal,
        }),
      ),
    refetchInterval: 60_000,
  });

export const messagesQuery = (view: View, filters: MessageFilters) =>
  pagesOf(keyOf(view, "messages", filters), (page, signal) =>
    apiOf(view).GET("/v1/messages", { params: { query: { ...filters, ...page } }, signal }),
  );

/** The newest messages that fit the filters, one page. */
export const newestQuery = (view: View, filters: MessageFilters, limit: number) =>
  queryOptions({
    queryKey: keyOf(view, "messages", "newest", filters, limit),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/messages", { params: { query: { ...filters, limit } }, signal })),
  });

export const messageQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: keyOf(view, "message", id),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/messages/{message_id}", { params: { path: { message_id: id } }, signal })),
  });

export const contentQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: keyOf(view, "content", id),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/messages/{message_id}/content", { params: { path: { message_id: id } }, signal })),
  });

export const providersQuery = (view: View) =>
  queryOptions({
    queryKey: keyOf(view, "providers"),
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/providers", { signal })),
    select: (list) => list.data,
    refetchInterval: 5_000,
  });

export const dryRunQuery = (view: View, body: Schemas["DryRunRequest"]) =>
  queryOptions({
    queryKey: keyOf(view, "dry-run", body),
    queryFn: ({ signal }) => dataOf(apiOf(view).POST("/v1/route/dry-run", { body, signal })),
    refetchInterval: 5_000,
  });
