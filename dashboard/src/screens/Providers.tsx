// The providers of a channel in the order in which they are tried, and why.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { ApiError, apiOf, dataOf } from "../api/client";
import { type Channel, type Provider, providersQuery } from "../api/queries";
import { useRole, useView } from "../frame/view";
import { CHANNEL_NAMES, CHANNEL_WORDS } from "../message/wording";
import { Empty, ErrorNote, Panel, Skeleton } from "../parts/panel";
import { Button, Card, Note, Shape } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";
import { useTitle } from "../parts/title";
import { effectOf, isSame, type Order, rebase } from "../providers/draft";
import { ProbeTime } from "../providers/health";
import { ProviderList } from "../providers/ProviderList";
import style from "./Providers.module.css";

const ProviderDetails = lazy(() => import("../providers/ProviderDetails"));
const DryRun = lazy(() => import("../providers/DryRun"));

export function Providers() {
  useTitle("Providers");
  const { channel } = useParams({ from: "/p/$project/providers/$channel" }) as { channel: Channel };
  const query = useQuery(providersQuery(useView()));
  return (
    <>
      <div className="heading">
        <h1>Providers</h1>
      </div>
      <Panel query={query} skeleton={<Skeleton lines={5} height="4rem" />}>
        {(all) => (
          <>
            <Channels all={all} current={channel} />
            <OfChannel key={channel} channel={channel} providers={all.filter((one) => one.channel === channel)} />
          </>
        )}
      </Panel>
    </>
  );
}

function Channels({ all, current }: { all: Provider[]; current: Channel }) {
  const { project } = useView();
  return (
    <nav className={parts.tabs} aria-label="Channel">
      {(Object.keys(CHANNEL_NAMES) as Channel[]).map((channel) => (
        <Link
          key={channel}
          to="/p/$project/providers/$channel"
          params={{ project, channel }}
          aria-current={channel === current ? "page" : undefined}
        >
          {CHANNEL_NAMES[channel]} <span className="muted">{all.filter((one) => one.channel === channel).length}</span>
        </Link>
      ))}
    </nav>
  );
}

function OfChannel({ channel, providers }: { channel: Channel; providers: Provider[] }) {
  const saved = providers.map((one) => one.id);
  const [draft, setDraft] = useState<{ order: Order; base: Order } | null>(null);
  const order = draft ? rebase(draft.order, saved) : saved;
  const { open } = useSearch({ from: "/p/$project/providers/$channel" });
  const navigate = useNavigate({ from: "/p/$project/providers/$channel" });
  const shown = providers.find((one) => one.id === open) ?? providers.find((one) => one.health.status !== "healthy") ?? providers[0];
  const change = (next: Order) => setDraft(isSame(next, saved) ? null : { order: next, base: draft?.base ?? saved });
  if (providers.length === 0) return <NoProviders channel={channel} />;
  return (
    <>
      <Unhealthy providers={providers} />
      <div className="split">
        <div className="stack stack-wide">
          <Card
            title={`Order for ${CHANNEL_WORDS[channel]}`}
            aside={<>The first healthy one is used. Drag, or take the handle and press <kbd>Enter</kbd> <kbd>↑</kbd> <kbd>↓</kbd> <kbd>Enter</kbd>. Saved only after you have seen the effect.</>}
            padded={false}
          >
            <ProviderList
              providers={order.flatMap((id) => providers.find((one) => one.id === id) ?? [])}
              openId={shown?.id}
              onReorder={change}
              onOpen={(id) => void navigate({ search: (last) => ({ ...last, open: id }), replace: true })}
            />
            {draft && (
              <DraftBar channel={channel} order={order} base={draft.base} saved={saved} providers={providers} onEnd={() => setDraft(null)} />
            )}
            <Legend />
          </Card>
          <Suspense fallback={<Skeleton />}><DryRun channel={channel} /></Suspense>
        </div>
        {shown && <Suspense fallback={<Skeleton />}><ProviderDetails provider={shown} /></Suspense>}
      </div>
    </>
  );
}

function Unhealthy({ providers }: { providers: Provider[] }) {
  const failing = providers.filter((one) => one.enabled && one.health.status === "unhealthy");
  const usable = providers.some((one) => one.enabled && one.health.status !== "unhealthy");
  if (failing.length === 0) return null;
  return (
    <Note
      tone="bad"
      lead={`${failing.map((one) => visible(one.name)).join(", ")} ${failing.length === 1 ? "is" : "are"} unhealthy. ${usable ? "Messages take the next provider." : "No provider of this channel can be used: messages wait."}`}
    >
      {failing.map((one) => (
        <p key={one.id}>
          {visible(one.name)}: {visible(one.health.reason)}
          {one.health.probe_at && <>, next probe <ProbeTime at={one.health.probe_at} /></>}
        </p>
      ))}
    </Note>
  );
}

function NoProviders({ channel }: { channel: Channel }) {
  return (
    <section className={parts.card}>
      <Empty>
        <p>
          There is no provider for {CHANNEL_WORDS[channel]} yet: messages of this channel wait until there is one.
        </p>
        <code>sluice provider add PACKAGE NAME &lt; credentials.json</code>
      </Empty>
    </section>
  );
}

/** The order before it is saved: its effect, and both orders where another person has changed it meanwhile. */
function DraftBar({ channel, order, base, saved, providers, onEnd }: {
  channel: Channel;
  order: Order;
  base: Order;
  saved: Order;
  providers: Provider[];
  onEnd: () => void;
}) {
  const view = useView();
  const queryClient = useQueryClient();
  const mayWrite = useRole() !== "VIEWER";
  const save = useMutation({
    mutationFn: () => dataOf(apiOf(view).POST("/v1/providers/reorder", { body: { channel, providerIds: [...order] } })),
    onSuccess: async () => {
      await queryClient.invalidateQueries({ queryKey: providersQuery(view).queryKey });
      onEnd();
    },
  });
  const nameOf = (id: string) => visible(providers.find((one) => one.id === id)?.name ?? "removed");
  const isConflict = !isSame(base, saved);
  return (
    <div className={style.draft} role="region" aria-label="The order that is not saved">
      <div>
        <p>
          <b>Not saved.</b> {visible(effectOf(order, saved, providers))}
        </p>
        {isConflict && (
          <div role="alert">
            <p>The order was changed meanwhile.</p>
            <div className={style.orders}>
              <div>It is now<ol>{saved.map((id) => <li key={id}>{nameOf(id)}</li>)}</ol></div>
              <div>Yours<ol>{order.map((id) => <li key={id}>{nameOf(id)}</li>)}</ol></div>
            </div>
          </div>
        )}
        {save.error && (save.error instanceof ApiError && save.error.status === 403 ? <p>Only the roles DEVELOPER and ADMIN may change the order.</p> : <ErrorNote error={save.error} />)}
      </div>
      <span className="row">
        <Button onClick={onEnd}>Discard</Button>
        <Button kind="main" onClick={() => save.mutate()} disabled={save.isPending || !mayWrite}>
          {isConflict ? "Save my order" : "Save the order"}
        </Button>
      </span>
    </div>
  );
}

function Legend() {
  return (
    <div className={`${style.legend} row small sub`}>
      <span className="legend"><Shape tone="good" />Healthy</span>
      <span className="legend"><Shape tone="warn" />Degraded, used when no healthy one is left</span>
      <span className="legend"><Shape tone="bad" />Unhealthy, only probes</span>
      <span className="legend"><Shape tone="idle" />Off</span>
    </div>
  );
}
