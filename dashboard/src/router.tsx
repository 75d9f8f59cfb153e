// Every view as an address: the URL is the view.
import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
  retainSearchParams,
} from "@tanstack/react-router";
import { type AnalyticsFilters, type Channel, type MessageFilters, meQuery, type SuppressionFilters, type TemplateKind, type WebhookStatus } from "./api/queries";
import type { IncidentFilters } from "./api/incidents";
import type { OutboxSearch } from "./api/outbox";
import { Frame } from "./frame/Frame";
import { NotFound, RouteError } from "./frame/RouteError";
import { lastProject } from "./frame/preferences";
import { CHANNEL_NAMES } from "./message/wording";
import { Skeleton } from "./parts/panel";
import { GROUPS, KINDS, RANGES, REASONS, WEBHOOK_STATUSES } from "./api/values";

export interface ViewSearch {
  /** What test keys have sent, in place of live messages. */
  mode?: "test";
}

type Search = Record<string, unknown>;

const root = createRootRouteWithContext<{ queryClient: QueryClient }>()({
  component: Outlet,
  notFoundComponent: NotFound,
  errorComponent: RouteError,
});

const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : typeof value === "number" ? String(value) : undefined);
const channel = (value: unknown) => (typeof value === "string" && value in CHANNEL_NAMES ? (value as Channel) : undefined);
const flag = (value: unknown) => (typeof value === "boolean" ? value : undefined);
const mode = (value: unknown) => (value === "test" ? "test" : undefined);

const start = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: async ({ context }) => {
    const me = await context.queryClient.ensureQueryData(meQuery).catch((error) => {
      if (error.status === 401) throw redirect({ to: "/login" });
      throw error;
    });
    const known = me.projects.find((project) => project.slug === lastProject()) ?? me.projects[0];
    if (known) throw redirect({ to: "/p/$project", params: { project: known.slug } });
  },
  component: lazyRouteComponent(() => import("./screens/NoProject")),
});

const login = createRoute({
  getParentRoute: () => root,
  path: "/login",
  validateSearch: (search: Search): { next?: string } => ({ next: text(search.next) }),
  component: lazyRouteComponent(() => import("./screens/Login"), "Login"),
});

const linkPages = (["/setup", "/reset-password", "/accept-invitation"] as const).map((path) =>
  createRoute({
    getParentRoute: () => root,
    path,
    component: lazyRouteComponent(() => import("./screens/LinkLanding"), "LinkLanding"),
  }),
);

const project = createRoute({
  getParentRoute: () => root,
  path: "/p/$project",
  validateSearch: (search: Search): ViewSearch => ({ mode: mode(search.mode) }),
  search: { middlewares: [retainSearchParams(["mode"])] },
  component: Frame,
});

const overview = createRoute({
  getParentRoute: () => project,
  path: "/",
  component: lazyRouteComponent(() => import("./screens/Overview"), "Overview"),
});

const messages = createRoute({
  getParentRoute: () => project,
  path: "/messages",
  validateSearch: (search: Search): MessageFilters => ({
    status: text(search.status),
    channel: channel(search.channel),
    to: text(search.to),
    from: text(search.from),
    tag: text(search.tag),
    provider: text(search.provider),
    attempted_provider: text(search.attempted_provider),
    failed_over: flag(search.failed_over),
    possible_duplicate: flag(search.possible_duplicate),
    incident: text(search.incident),
    template: text(search.template),
    since: text(search.since),
    until: text(search.until),
  }),
  component: lazyRouteComponent(() => import("./screens/Messages"), "Messages"),
});

const message = createRoute({
  getParentRoute: () => project,
  path: "/messages/$messageId",
  component: lazyRouteComponent(() => import("./screens/Message"), "MessageScreen"),
});

const incidents = createRoute({
  getParentRoute: () => project,
  path: "/incidents",
  validateSearch: (search: Search): IncidentFilters => ({
    status: search.status === "open" || search.status === "resolved" ? search.status : undefined,
    channel: channel(search.channel),
  }),
  component: lazyRouteComponent(() => import("./screens/Incidents"), "Incidents"),
});

const incident = createRoute({
  getParentRoute: () => project,
  path: "/incidents/$incidentId",
  component: lazyRouteComponent(() => import("./screens/Incident"), "IncidentScreen"),
});

const outbox = createRoute({
  getParentRoute: () => project,
  path: "/outbox",
  validateSearch: (search: Search): OutboxSearch => ({ channel: channel(search.channel), to: text(search.to), open: text(search.open) }),
  component: lazyRouteComponent(() => import("./screens/Outbox"), "Outbox"),
});

const providers = createRoute({
  getParentRoute: () => project,
  path: "/providers",
  beforeLoad: ({ params }) => {
    throw redirect({ to: "/p/$project/providers/$channel", params: { ...params, channel: "email" } });
  },
});

const providersOfChannel = createRoute({
  getParentRoute: () => project,
  path: "/providers/$channel",
  validateSearch: (search: Search): { open?: string } => ({ open: text(search.open) }),
  component: lazyRouteComponent(() => import("./screens/Providers"), "Providers"),
});

const oneOf = <Value extends string>(values: readonly Value[], value: unknown) => values.find((one) => one === value);

const webhooks = createRoute({
  getParentRoute: () => project,
  path: "/webhooks",
  validateSearch: (search: Search): { open?: string; status?: WebhookStatus } => ({
    open: text(search.open),
    status: oneOf(WEBHOOK_STATUSES, search.status),
  }),
  component: lazyRouteComponent(() => import("./screens/Webhooks"), "Webhooks"),
});

const suppressions = createRoute({
  getParentRoute: () => project,
  path: "/suppressions",
  validateSearch: (search: Search): SuppressionFilters => ({
    channel: channel(search.channel),
    address: text(search.address),
    reason: oneOf(REASONS, search.reason),
  }),
  component: lazyRouteComponent(() => import("./screens/Suppressions"), "Suppressions"),
});

const keys = createRoute({
  getParentRoute: () => project,
  path: "/keys",
  component: lazyRouteComponent(() => import("./screens/Keys"), "Keys"),
});

const templates = createRoute({
  getParentRoute: () => project,
  path: "/templates",
  validateSearch: (search: Search): { kind?: TemplateKind; name?: string } => ({ kind: oneOf(KINDS, search.kind), name: text(search.name) }),
  component: lazyRouteComponent(() => import("./screens/Templates"), "Templates"),
});

const template = createRoute({
  getParentRoute: () => project,
  path: "/templates/$templateId",
  component: lazyRouteComponent(() => import("./screens/Template"), "TemplateScreen"),
});

const system = createRoute({
  getParentRoute: () => project,
  path: "/system",
  component: lazyRouteComponent(() => import("./screens/System"), "System"),
});

const analytics = createRoute({
  getParentRoute: () => project,
  path: "/analytics",
  validateSearch: (search: Search): Partial<AnalyticsFilters> => ({
    days: RANGES.find((days) => days === search.days),
    channel: channel(search.channel),
    provider: text(search.provider),
    tag: text(search.tag),
    by: oneOf(GROUPS, search.by),
  }),
  component: lazyRouteComponent(() => import("./screens/Analytics"), "Analytics"),
});

const settings = [webhooks, suppressions, keys, templates, template, system, analytics];

const tree = root.addChildren([
  start,
  login,
  ...linkPages,
  project.addChildren([overview, messages, message, providers, providersOfChannel, incidents, incident, outbox, ...settings]),
]);

export function createAppRouter(queryClient: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { queryClient },
    defaultPreload: "intent",
    defaultPendingMs: 150,
    defaultPendingComponent: Skeleton,
    scrollRestoration: true,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createAppRouter>;
  }
}
