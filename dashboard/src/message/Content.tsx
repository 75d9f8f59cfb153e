// What was sent. The HTML of a mail is a document of its own in a frame without rights; it never enters this page.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, readText, type Schemas, type View } from "../api/client";
import { Panel } from "../parts/panel";
import { Button, buttonClass, Facts } from "../parts/parts";
import { visible, visibleLines } from "../parts/text";
import style from "./Content.module.css";
import { hostOf, size } from "./links";

type Content = Schemas["ContentResponse"];
type Part = "html" | "text" | "raw";

const NAMES: Record<Part, string> = { html: "Rendered", text: "Text", raw: "Source" };
/** Characters of a source that are shown; the file has all of it. */
const LONGEST_SOURCE = 100_000;

/** `path`: the address of the message or capture in the API, which its documents and attachments are below. */
export function ContentView({ content, path, view }: { content: Content; path: string; view: View }) {
  const [chosen, setChosen] = useState<Part | null>(null);
  const part = chosen ?? content.parts[0];
  const documentOf = (name: string) => `${path}/${name}?${new URLSearchParams({ project: view.project, mode: view.mode })}`;
  return (
    <div className={style.content}>
      <div className="stack">
        {content.parts.length > 1 && (
          <div className="row" role="group" aria-label="Show the content as">
            {content.parts.map((one) => (
              <Button key={one} aria-pressed={one === part} onClick={() => setChosen(one)}>
                {NAMES[one]}
              </Button>
            ))}
          </div>
        )}
        {part === "html" && <Rendered address={documentOf("content/html")} />}
        {part === "text" && <pre className={style.text} tabIndex={0}>{visibleLines(content.text ?? "")}</pre>}
        {part === "raw" && <Source address={documentOf("content/raw")} />}
        {part === undefined && <p className="muted">It has no text of its own.</p>}
      </div>
      <div className="stack stack-wide">
        <Headers content={content} />
        {content.attachments.length > 0 && <Attachments content={content} addressOf={(number) => documentOf(`attachments/${number}`)} />}
        {content.links.length > 0 && <Links links={content.links} />}
      </div>
    </div>
  );
}

function Rendered({ address }: { address: string }) {
  const [withImages, setWithImages] = useState(false);
  return (
    <>
      <p className="small muted">
        Scripts and forms are blocked, and links lead nowhere.{" "}
        {withImages ? "Remote images were loaded this once: their sender may have seen it." : "Remote images are blocked."}{" "}
        {!withImages && (
          <Button kind="plain" onClick={() => setWithImages(true)} title="The sender of the images may see that they are loaded, when, and from where.">
            Load images once
          </Button>
        )}
      </p>
      <iframe title="The mail as it is rendered" className={style.frame} sandbox="" referrerPolicy="no-referrer" src={`${address}${withImages ? "&images=1" : ""}`} />
    </>
  );
}

function Source({ address }: { address: string }) {
  const query = useQuery({ queryKey: ["source", address], queryFn: ({ signal }) => readText(address, signal), staleTime: Infinity });
  return (
    <>
      <Panel query={query}>
        {(source) => (
          <>
            <pre className={style.text} tabIndex={0}>{visibleLines(source.slice(0, LONGEST_SOURCE))}</pre>
            {source.length > LONGEST_SOURCE && <p className="small muted">The first {LONGEST_SOURCE.toLocaleString("en")} characters. The file has all of them.</p>}
          </>
        )}
      </Panel>
      <span><a className={buttonClass()} href={address} download>Download the mail</a></span>
    </>
  );
}

function Headers({ content }: { content: Content }) {
  const people: [string, string[]][] = [["To", content.to], ["Cc", content.cc], ["Bcc", content.bcc]];
  return (
    <Facts
      facts={[
        ["From", visible(content.from ?? "not set")],
        ...people.filter(([, list]) => list.length > 0).map(([name, list]) => [name, visible(list.join(", "))] as [string, string]),
        ...(content.reply_to ? [["Reply to", visible(content.reply_to)] as [string, string]] : []),
        ...(content.subject === null ? [] : [["Subject", visible(content.subject)] as [string, string]]),
        ...Object.entries(content.other).map(([name, value]) => [visible(name), <code key={name}>{visible(typeof value === "string" ? value : JSON.stringify(value))}</code>] as [string, React.ReactNode]),
      ]}
    />
  );
}

function Attachments({ content, addressOf }: { content: Content; addressOf: (number: number) => string }) {
  return (
    <div className="stack">
      <h3>Attachments</h3>
      <ul className="stack">
        {content.attachments.map((file) => (
          <li key={file.number}>
            <a href={addressOf(file.number)} download>{visible(file.filename)}</a>{" "}
            <span className="small muted">{visible(file.content_type)}, {size(file.size)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Links({ links }: { links: string[] }) {
  return (
    <div className="stack">
      <h3>Where its links lead</h3>
      <ul className={`${style.links} stack small`} tabIndex={0} aria-label="Where its links lead">
        {links.map((link) => (
          <li key={link}>
            <b>{visible(hostOf(link))}</b>
            <div className="muted mono">{visible(link)}</div>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** The content of something that may have been erased meanwhile. */
export function ContentPanel({ query, path, view }: {
  query: Parameters<typeof Panel<Content>>[0]["query"];
  path: string;
  view: View;
}) {
  if (query.error instanceof ApiError && query.error.status === 404) return <p className="muted">{query.error.message}</p>;
  return <Panel query={query}>{(content) => <ContentView content={content} path={path} view={view} />}</Panel>;
}
