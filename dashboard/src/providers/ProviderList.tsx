// The list of a channel: reordered by mouse, touch, keyboard, or from the menu of a row.
import { lazy, Suspense, useState } from "react";
import {
  Button as AriaButton, DropIndicator, GridList, GridListItem, Menu, MenuItem, MenuTrigger, Popover, useDragAndDrop,
} from "react-aria-components";
import type { Provider } from "../api/queries";
import { useRole } from "../frame/view";
import { count } from "../message/wording";
import parts from "../parts/parts.module.css";
import { percent } from "../parts/percent";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import style from "../screens/Providers.module.css";
import { moveBeside, moveTo, type Order } from "./draft";
import { useEnable } from "./enable";
import { HealthTag, ProbeTime, toneOf } from "./health";

// Dialogs load when they are asked for.
const DisableDialog = lazy(() => import("./DisableDialog"));
const TestDialog = lazy(() => import("./TestDialog"));

interface ListProps {
  providers: Provider[];
  openId: string | undefined;
  onReorder: (order: Order) => void;
  onOpen: (id: string) => void;
}

type Asked = { act: "disable" | "test"; provider: Provider } | null;

export function ProviderList({ providers, openId, onReorder, onOpen }: ListProps) {
  const order = providers.map((one) => one.id);
  const mayWrite = useRole() !== "VIEWER";
  const [asked, setAsked] = useState<Asked>(null);
  const { dragAndDropHooks } = useDragAndDrop({
    isDisabled: !mayWrite,
    getItems: (keys) => [...keys].map((key) => ({ "text/plain": providers.find((one) => one.id === key)?.name ?? "" })),
    onReorder: ({ keys, target }) =>
      target.dropPosition !== "on" &&
      onReorder(moveBeside(order, new Set([...keys].map(String)), String(target.key), target.dropPosition)),
    renderDropIndicator: (target) => <DropIndicator target={target} className={({ isDropTarget }) => (isDropTarget ? style.drop! : "")} />,
  });
  return (
    <>
      <GridList
        aria-label="Providers in the order in which they are tried"
        className={style.list}
        keyboardNavigationBehavior="tab"
        items={providers}
        dragAndDropHooks={dragAndDropHooks}
        onAction={(key) => onOpen(String(key))}
        dependencies={[openId, order.join()]}
      >
        {(provider) => (
          <Row
            provider={provider}
            position={order.indexOf(provider.id)}
            length={order.length}
            isOpen={provider.id === openId}
            onMove={(position) => onReorder(moveTo(order, provider.id, position))}
            onAsk={(act) => setAsked({ act, provider })}
          />
        )}
      </GridList>
      <Suspense>
        {asked?.act === "disable" && <DisableDialog provider={asked.provider} onClose={() => setAsked(null)} />}
        {asked?.act === "test" && <TestDialog provider={asked.provider} onClose={() => setAsked(null)} />}
      </Suspense>
    </>
  );
}

function Row({ provider, position, length, isOpen, onMove, onAsk }: {
  provider: Provider;
  position: number;
  length: number;
  isOpen: boolean;
  onMove: (position: number) => void;
  onAsk: (act: "disable" | "test") => void;
}) {
  const name = visible(provider.name);
  const { health } = provider;
  const attempts = Math.round(health.samples);
  const isMeasured = health.updated_at !== null && attempts >= 1;
  return (
    <GridListItem id={provider.id} textValue={name} className={style.row!} data-open={isOpen || undefined}>
      <AriaButton slot="drag" className={style.grip!} aria-label={`Reorder ${name}`}>
        <Grip />
      </AriaButton>
      <div className={style.name}>
        <b><span className="muted">{position + 1}</span> {name}</b>
        <span className="small muted">{provider.packageName}</span>
      </div>
      <div className={`${style.name} ${style.state}`}>
        <span><HealthTag provider={provider} /></span>
        <span className="small muted">{stateText(provider)}</span>
      </div>
      <div className={`${style.rate} num`}>
        {isMeasured && <b>{percent(health.error_rate)}</b>}
        <span className="small muted">
          {isMeasured ? `estimated errors, from about ${count(attempts, "recent attempt")}` : health.updated_at ? "no recent attempts" : "no attempts yet"}
        </span>
        {isMeasured && (
          <div className={style.meter} aria-hidden="true">
            <span style={{ width: `${Math.max(health.error_rate * 100, 1)}%`, background: `var(--${toneOf(provider)})` }} />
          </div>
        )}
      </div>
      <RowMenu provider={provider} position={position} length={length} onMove={onMove} onAsk={onAsk} />
    </GridListItem>
  );
}

function stateText({ enabled, health, updated_at }: Provider) {
  if (!enabled) return <>since <Moment at={updated_at} /></>;
  if (health.suspended_until) return <>no attempt before <Moment at={health.suspended_until} /></>;
  if (health.probe_at) return <>next probe <ProbeTime at={health.probe_at} /></>;
  return visible(health.reason);
}

function Grip() {
  return (
    <svg viewBox="0 0 16 16" aria-hidden="true" fill="currentColor">
      {[3, 8, 13].flatMap((y) => [5, 11].map((x) => <circle key={`${x}${y}`} cx={x} cy={y} r="1.5" />))}
    </svg>
  );
}

/** The same moves without dragging, and what may be done with the provider. */
function RowMenu({ provider, position, length, onMove, onAsk }: Omit<Parameters<typeof Row>[0], "isOpen">) {
  const mayWrite = useRole() !== "VIEWER";
  const enable = useEnable(provider);
  if (!mayWrite) return <span />;
  const acts: Record<string, () => void> = {
    first: () => onMove(0),
    up: () => onMove(position - 1),
    down: () => onMove(position + 1),
    last: () => onMove(length - 1),
    test: () => onAsk("test"),
    disable: () => onAsk("disable"),
    enable: () => enable.mutate(true),
  };
  const impossible = [...(position === 0 ? ["first", "up"] : []), ...(position === length - 1 ? ["down", "last"] : [])];
  return (
    <MenuTrigger>
      <AriaButton className={style.menuButton!} aria-label={`Actions for ${visible(provider.name)}`}>
        ⋯
      </AriaButton>
      <Popover placement="bottom end">
        <Menu className={parts.menu!} onAction={(key) => acts[String(key)]?.()} disabledKeys={impossible}>
          <MenuItem id="first">Move to the top</MenuItem>
          <MenuItem id="up">Move up</MenuItem>
          <MenuItem id="down">Move down</MenuItem>
          <MenuItem id="last">Move to the end</MenuItem>
          <MenuItem id="test">Send a test message…</MenuItem>
          {provider.enabled ? <MenuItem id="disable">Disable…</MenuItem> : <MenuItem id="enable">Enable</MenuItem>}
        </Menu>
      </Popover>
    </MenuTrigger>
  );
}
