// One field for addresses, ids, providers and screens.
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { providersQuery } from "../api/queries";
import { Dialog } from "../parts/dialog";
import parts from "../parts/parts.module.css";
import { screensOf } from "./ProjectScreens";
import { useRole, useView } from "./view";

interface Found {
  label: string;
  go: () => void;
}

export default function Find({ onClose }: { onClose: () => void }) {
  const [text, setText] = useState("");
  const found = useFound(text.trim());
  const choose = (one: Found | undefined) => {
    if (!one) return;
    one.go();
    onClose();
  };
  return (
    <Dialog title="Find" onClose={onClose}>
      <form
        className={parts.field}
        onSubmit={(event) => {
          event.preventDefault();
          choose(found[0]);
        }}
      >
        <label className={parts.field}>
          <span>An address, a msg_ id, a tag, a provider or a screen</span>
          <input type="search" autoFocus value={text} onChange={(event) => setText(event.target.value)} />
        </label>
      </form>
      <ul className="stack" aria-label="Found">
        {found.map((one) => (
          <li key={one.label}>
            <button type="button" className={`${parts.button} ${parts.plain}`} onClick={() => choose(one)}>
              {one.label}
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function useFound(text: string): Found[] {
  const view = useView();
  const role = useRole();
  const { data: providers = [] } = useQuery({ ...providersQuery(view), enabled: role !== "VIEWER" });
  const navigate = useNavigate();
  const params = { project: view.project };
  const screens: Found[] = [
    { label: "Overview", go: () => void navigate({ to: "/p/$project", params }) },
    { label: "Messages", go: () => void navigate({ to: "/p/$project/messages", params }) },
    ...(role === "VIEWER" ? [] : [
      { label: "Providers", go: () => void navigate({ to: "/p/$project/providers", params }) },
      { label: "Incidents", go: () => void navigate({ to: "/p/$project/incidents", params }) },
      { label: "Outbox", go: () => void navigate({ to: "/p/$project/outbox", params }) },
    ]),
    ...screensOf(role).map(({ label, path }) => ({ label, go: () => void navigate({ to: path, params }) })),
  ];
  if (text === "") return screens;
  const lower = text.toLowerCase();
  const found: Found[] = [];
  if (text.startsWith("msg_"))
    found.push({
      label: `Message ${text}`,
      go: () => void navigate({ to: "/p/$project/messages/$messageId", params: { ...params, messageId: text } }),
    });
  found.push(...providers.filter((one) => `${one.name} ${one.id}`.toLowerCase().includes(lower)).map((one) => ({
    label: `Provider ${one.name}`,
    go: () => void navigate({ to: "/p/$project/providers/$channel", params: { ...params, channel: one.channel }, search: { open: one.id } }),
  })));
  found.push(...screens.filter((screen) => screen.label.toLowerCase().startsWith(lower)));
  if (!text.startsWith("msg_")) {
    found.push(
      { label: `Messages to ${text}`, go: () => void navigate({ to: "/p/$project/messages", params, search: { to: text } }) },
      { label: `Messages with the tag ${text}`, go: () => void navigate({ to: "/p/$project/messages", params, search: { tag: text } }) },
    );
  }
  return found;
}
