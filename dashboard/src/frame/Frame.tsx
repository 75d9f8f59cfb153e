// The frame of every screen of a project: navigation, project and mode, live state, keys.
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation, useNavigate, useRouter } from "@tanstack/react-router";
import { lazy, Suspense, useEffect, useState } from "react";
import { ApiError, api } from "../api/client";
import { meQuery, providersQuery } from "../api/queries";
import { ErrorNote, Skeleton } from "../parts/panel";
import { Button, CopyButton } from "../parts/parts";
import { relative, useNow, ZONE } from "../parts/time";
import { Banners, useOpenIncidents } from "./Banners";
import { Brand } from "./Brand";
import style from "./Frame.module.css";
import { LiveProvider, useLive, useLiveView } from "./live";
import { applyTheme, rememberProject, type Theme, theme } from "./preferences";
import { useShortcuts } from "./shortcuts";
import { projectShortcuts, ProjectScreens } from "./ProjectScreens";
import { useRole, useView } from "./view";

const Find = lazy(() => import("./Find"));
const Help = lazy(() => import("./Help"));

export function Frame() {
  const view = useView();
  const me = useQuery(meQuery);
  const live = useLiveView(view);
  const [dialog, setDialog] = useState<"find" | "help" | null>(null);
  const navigate = useNavigate();
  const to = (path: "/p/$project" | "/p/$project/messages" | "/p/$project/providers" | "/p/$project/incidents" | "/p/$project/outbox") => () =>
    void navigate({ to: path, params: { project: view.project } });
  useShortcuts({
    "/": () => setDialog("find"),
    "?": () => setDialog("help"),
    "g o": to("/p/$project"),
    "g m": to("/p/$project/messages"),
    "g p": to("/p/$project/providers"),
    "g i": to("/p/$project/incidents"),
    "g x": to("/p/$project/outbox"),
    ...projectShortcuts((path) => void navigate({ to: path, params: { project: view.project } })),
    c: () => void navigator.clipboard.writeText(window.location.href),
  });
  useEffect(() => rememberProject(view.project), [view.project]);

  if (!me.data) return me.error ? <SessionError error={me.error} retry={() => void me.refetch()} /> : <Skeleton />;
  return (
    <LiveProvider value={live}>
      <a className={style.skip} href="#main">
        Skip to content
      </a>
      <div className={style.frame}>
        <Side />
        <main className={style.main} id="main" tabIndex={-1}>
          <div className={style.top}>
            <button type="button" className={style.find} onClick={() => setDialog("find")}>
              Find an address, msg_ id, provider… <kbd>/</kbd>
            </button>
            <LiveState />
          </div>
          <Banners />
          <Outlet />
        </main>
      </div>
      <Suspense>
        {dialog === "find" && <Find onClose={() => setDialog(null)} />}
        {dialog === "help" && <Help onClose={() => setDialog(null)} />}
      </Suspense>
    </LiveProvider>
  );
}

function SessionError({ error, retry }: { error: unknown; retry: () => void }) {
  if (error instanceof ApiError && error.status === 401) return <Skeleton />; // on the way to the login
  return <ErrorNote error={error} retry={retry} />;
}

function LiveState() {
  const { kind, at } = useLive();
  const now = useNow(1_000);
  const word = { connecting: "Connecting", live: "Live", polling: "Polling", stopped: "Stopped" }[kind];
  return (
    <span className="row small">
      <span className={style.live} data-kind={kind}>
        <i aria-hidden="true" />
        {word}, {relative(Math.min(at, now), now)}
      </span>
      <span className="muted">Times in {ZONE}</span>
      <CopyButton label="Copy link" text={() => window.location.href} />
    </span>
  );
}

function Side() {
  const [isOpen, setOpen] = useState(false);
  const { pathname } = useLocation();
  useEffect(() => setOpen(false), [pathname]);
  const folded = isOpen ? "" : style.folded;
  return (
    <header className={style.side}>
      <div className={style.brandRow}>
        <Brand />
        <span className={style.menuButton}>
          <Button aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            Menu
          </Button>
        </span>
      </div>
      <div className={`${style.picks} ${folded}`}>
        <ProjectPick />
        <ModePick />
      </div>
      <nav aria-label="Main" className={`${style.nav} ${folded}`}>
        <Navigation />
      </nav>
      <div className={`${style.foot} ${folded}`}>
        <Account />
      </div>
    </header>
  );
}

function ProjectPick() {
  const { project } = useView();
  const { data } = useQuery(meQuery);
  const navigate = useNavigate();
  return (
    <select
      aria-label="Project"
      value={project}
      onChange={(event) => void navigate({ to: "/p/$project", params: { project: event.target.value }, search: {} })}
    >
      {data?.projects.every((one) => one.slug !== project) && <option>{project}</option>}
      {data?.projects.map((one) => <option key={one.id}>{one.slug}</option>)}
    </select>
  );
}

function ModePick() {
  const { mode } = useView();
  return (
    <div className={style.modes} role="group" aria-label="Messages of">
      <Link to="." search={(last) => ({ ...last, mode: undefined })} activeOptions={{ exact: true }} aria-current={mode === "live" ? "true" : undefined}>
        Live
      </Link>
      <Link to="." search={(last) => ({ ...last, mode: "test" as const })} activeOptions={{ exact: true }} aria-current={mode === "test" ? "true" : undefined}>
        Sandbox
      </Link>
    </div>
  );
}

function Navigation() {
  const { project } = useView();
  const isViewer = useRole() === "VIEWER";
  const params = { project };
  return (
    <ul>
      <li>
        <Link to="/p/$project" params={params} activeOptions={{ exact: true, includeSearch: false }}>
          Overview
        </Link>
      </li>
      <li>
        <Link to="/p/$project/messages" params={params} activeOptions={{ includeSearch: false }}>
          Messages
        </Link>
      </li>
      {!isViewer && (
        <li>
          <Link to="/p/$project/providers" params={params} activeOptions={{ includeSearch: false }}>
            Providers <UnhealthyCount />
          </Link>
        </li>
      )}
      {!isViewer && (
        <li>
          <Link to="/p/$project/incidents" params={params} activeOptions={{ includeSearch: false }}>
            Incidents <OpenCount />
          </Link>
        </li>
      )}
      {!isViewer && (
        <li>
          <Link to="/p/$project/outbox" params={params} activeOptions={{ includeSearch: false }}>
            Outbox
          </Link>
        </li>
      )}
      <ProjectScreens />
    </ul>
  );
}

function UnhealthyCount() {
  const { data } = useQuery(providersQuery(useView()));
  const number = data?.filter((provider) => provider.enabled && provider.health.status === "unhealthy").length ?? 0;
  return number > 0 ? <span>{number} unhealthy</span> : null;
}

function OpenCount() {
  const number = useOpenIncidents().length;
  return number > 0 ? <span>{number} open</span> : null;
}

function Account() {
  const { data } = useQuery(meQuery);
  const router = useRouter();
  const [chosen, setChosen] = useState<Theme>(theme);
  const logOut = async () => {
    await api.POST("/v1/auth/logout");
    await router.navigate({ to: "/login" });
    router.options.context.queryClient.clear();
  };
  return (
    <>
      <label>
        Theme{" "}
        <select
          value={chosen}
          onChange={(event) => {
            const next = event.target.value as Theme;
            applyTheme(next);
            setChosen(next);
          }}
        >
          <option value="system">of the system</option>
          <option value="light">light</option>
          <option value="dark">dark</option>
        </select>
      </label>
      <span>{data?.name || data?.email}</span>
      <span>
        <Button kind="plain" onClick={() => void logOut()}>
          Log out
        </Button>
      </span>
    </>
  );
}
