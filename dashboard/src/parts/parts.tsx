// The small parts of which every screen is made.
import { type ReactNode, useId, useState } from "react";
import type { State } from "../api/queries";
import { TONE_OF_STATE, type Tone } from "../message/wording";
import style from "./parts.module.css";

const SHAPES: Record<Tone, ReactNode> = {
  good: <circle cx="6" cy="6" r="5" />,
  warn: <path d="M6 1 11.5 11H.5z" />,
  bad: <rect x="1" y="1" width="10" height="10" />,
  unsure: <path d="M6 0 12 6 6 12 0 6z" />,
  idle: <path d="M1 5h10v2H1z" />,
};

/** The shape of a tone, for tags and legends. */
export function Shape({ tone }: { tone: Tone }) {
  return (
    <svg viewBox="0 0 12 12" className={`${style.shape} fill-${tone}`} aria-hidden="true">
      {SHAPES[tone]}
    </svg>
  );
}

export function Tag({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span className={`${style.tag} ${tone}`}>
      <Shape tone={tone} />
      {children}
    </span>
  );
}

export const StateTag = ({ state }: { state: State }) => <Tag tone={TONE_OF_STATE[state]}>{state}</Tag>;

/** A titled part of a screen. */
export function Card({ title, aside, children, padded = true, className = "" }: {
  title: string;
  aside?: ReactNode;
  children: ReactNode;
  padded?: boolean;
  className?: string;
}) {
  const id = useId();
  return (
    <section className={`${style.card} ${className}`} aria-labelledby={id}>
      <header className={style.cardHeader}>
        <h2 id={id}>{title}</h2>
        {aside !== undefined && <span className="small muted">{aside}</span>}
      </header>
      {padded ? <div className={`${style.pad} stack`}>{children}</div> : children}
    </section>
  );
}

/** Something that a person has to know: a sentence, what follows, what may be done. */
export function Note({ tone, lead, children, actions }: {
  tone: Tone;
  lead: ReactNode;
  children?: ReactNode;
  actions?: ReactNode;
}) {
  return (
    <div className={`${style.note} ${tone}`} role="status">
      <p className={style.lead}>{lead}</p>
      {children}
      {actions && <div className={style.noteActions}>{actions}</div>}
    </div>
  );
}

export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className={style.facts}>
      {facts.map(([name, value]) => (
        <div key={name} style={{ display: "contents" }}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

type Kind = "main" | "stop" | "plain" | "";

export const buttonClass = (kind: Kind = "") => `${style.button} ${kind && style[kind]}`;

export function Button({ kind = "", ...rest }: { kind?: Kind } & React.ComponentProps<"button">) {
  return <button type="button" {...rest} className={buttonClass(kind)} />;
}

/** Copies a text, and says so in its own label. */
export function CopyButton({ label, text, kind = "plain" }: { label: string; text: () => string; kind?: Kind }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text());
    setCopied(true);
    setTimeout(() => setCopied(false), 2_000);
  };
  return (
    <Button kind={kind} onClick={() => void copy()}>
      {isCopied ? "Copied" : label}
    </Button>
  );
}

/** A sandbox message is marked wherever it is named. */
export const SandboxTag = () => <Tag tone="idle">Sandbox</Tag>;
