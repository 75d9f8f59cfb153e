// Who and what may use the project: keys, members, invitations, and who changed what.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { type AuditEntry, auditQuery, invitationsQuery, keysQuery, type Member, membersQuery, meQuery, providersQuery } from "../api/queries";
import { useRole, useView } from "../frame/view";
import { ErrorNote, Skeleton } from "../parts/panel";
import { Pages } from "../parts/pages";
import { Button, Card, SandboxTag, Tag } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { type Column, Table } from "../parts/table";
import { visible } from "../parts/text";
import { Ago, Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import type { Asked } from "../people/Dialogs";

const Dialogs = lazy(() => import("../people/Dialogs"));

type Ask = (asked: Asked) => void;

export function Keys() {
  useTitle("Keys and people");
  const role = useRole();
  const me = useQuery(meQuery);
  const [asked, setAsked] = useState<Asked | null>(null);
  return (
    <>
      <div className="heading">
        <h1>Keys and people</h1>
      </div>
      {me.data ? (
        <div className="stack stack-wide">
          <ApiKeys ask={setAsked} />
          <Members ask={setAsked} />
          {role === "ADMIN" && <Audit />}
        </div>
      ) : me.error ? <ErrorNote error={me.error} /> : <Skeleton />}
      <Suspense>{asked && <Dialogs asked={asked} onClose={() => setAsked(null)} />}</Suspense>
    </>
  );
}

function useMembers() {
  const query = useInfiniteQuery({ ...membersQuery(useView()), enabled: useRole() === "ADMIN" });
  return query.data?.pages.flatMap((page) => page.data) ?? [];
}

function ApiKeys({ ask }: { ask: Ask }) {
  const query = useInfiniteQuery(keysQuery(useView()));
  const members = useMembers();
  const mayWrite = useRole() !== "VIEWER";
  const { data: me } = useQuery(meQuery);
  const nameOf = (id: string | null) => {
    if (id === null) return "the command line";
    return id === me?.id ? "you" : visible(members.find((one) => one.user_id === id)?.email ?? "a person");
  };
  return (
    <Card title="Keys" aside={mayWrite && <Button onClick={() => ask({ act: "createKey" })}>Create a key…</Button>} padded={false}>
      <Pages query={query} empty={<p>No key yet. A program needs one to send messages.</p>}>
        {(rows) => (
          <Table
            label="Keys"
            rows={rows}
            keyOf={(row) => row.id}
            columns={[
              ["Name", (row) => <><b>{visible(row.name)}</b> {row.test && <SandboxTag />}</>],
              ["Begins with", (row) => <code>{row.prefix}…</code>],
              ["State", (row) => <Tag tone={row.active ? "good" : "idle"}>{row.active ? "Active" : "Not confirmed"}</Tag>],
              ["Made by", (row) => nameOf(row.created_by)],
              ["Made", (row) => <Moment at={row.created_at} />],
              ...(mayWrite ? [["", (row) => <Button kind="plain" aria-label={`Revoke ${visible(row.name)}`} onClick={() => ask({ act: "revokeKey", key: row })}>Revoke…</Button>] as Column<(typeof rows)[number]>] : []),
            ]}
          />
        )}
      </Pages>
    </Card>
  );
}

function Members({ ask }: { ask: Ask }) {
  const query = useInfiniteQuery(membersQuery(useView()));
  const isAdmin = useRole() === "ADMIN";
  const { data: me } = useQuery(meQuery);
  const acts: Column<Member>[] = [
    [
      "",
      (row) => (
        <span className={parts.actions}>
          <Button kind="plain" aria-label={`Change the role of ${visible(row.email)}`} onClick={() => ask({ act: "changeRole", member: row })}>Change the role…</Button>
          <Button kind="plain" aria-label={`Remove ${visible(row.email)}`} onClick={() => ask({ act: "removeMember", member: row })}>Remove…</Button>
        </span>
      ),
    ],
  ];
  return (
    <Card title="Members" aside={isAdmin && <Button onClick={() => ask({ act: "addMember" })}>Add a person…</Button>} padded={false}>
      <Pages query={query} empty={<p>No person is a member: keys work, and the command line.</p>}>
        {(rows) => (
          <Table
            label="Members"
            rows={rows}
            keyOf={(row) => row.user_id}
            columns={[
              ["Person", (row) => <><b>{visible(row.name || row.email)}</b>{row.user_id === me?.id && <span className="muted"> (you)</span>}{row.name && row.name !== row.email && <div className="small muted">{visible(row.email)}</div>}</>],
              ["Role", (row) => row.role],
              ["Account since", (row) => <Moment at={row.created_at} />],
              ...(isAdmin ? acts : []),
            ]}
          />
        )}
      </Pages>
      {isAdmin && <Invitations ask={ask} />}
    </Card>
  );
}

function Invitations({ ask }: { ask: Ask }) {
  const query = useInfiniteQuery(invitationsQuery(useView()));
  return (
    <Pages query={query} empty={<p className="small muted">No invitation waits for an answer.</p>}>
      {(rows) => (
        <Table
          label="Invitations"
          rows={rows}
          keyOf={(row) => row.id}
          columns={[
            ["Invited", (row) => visible(row.email)],
            ["Role", (row) => row.role],
            ["Valid", (row) => <>ends <Ago at={row.expires_at} /></>],
            ["", (row) => <Button kind="plain" aria-label={`Revoke the invitation of ${visible(row.email)}`} onClick={() => ask({ act: "revokeInvitation", invitation: row })}>Revoke…</Button>],
          ]}
        />
      )}
    </Pages>
  );
}

/** The names of what was changed, where it is loaded: an id says little to a person. */
function useNames(): Map<string, string> {
  const view = useView();
  const keys = useInfiniteQuery(keysQuery(view)).data?.pages.flatMap((page) => page.data) ?? [];
  const providers = useQuery(providersQuery(view)).data ?? [];
  return new Map([
    ...useMembers().map((one) => [one.user_id, one.email] as const),
    ...[...keys, ...providers].map((one) => [one.id, one.name] as const),
  ]);
}

function Name({ id, names }: { id: string; names: Map<string, string> }) {
  const name = names.get(id);
  return name === undefined ? <code className="small">{id}</code> : <b title={id}>{visible(name)}</b>;
}

function Audit() {
  const query = useInfiniteQuery(auditQuery(useView()));
  const names = useNames();
  return (
    <Card title="Who changed what" aside="Newest first, without secrets" padded={false}>
      <Pages query={query} empty={<p>Nothing was changed yet.</p>}>
        {(rows) => (
          <Table
            label="Who changed what"
            rows={rows}
            keyOf={(row) => row.id}
            columns={[
              ["When", (row) => <Moment at={row.created_at} />],
              ["Who", (row) => actorOf(row)],
              ["What", (row) => <>{visible(`${row.action} ${row.noun}`.replaceAll("_", " "))} <Name id={row.object_id} names={names} /></>],
              ["Changes", (row) => <Changes changes={row.changes} />],
            ]}
          />
        )}
      </Pages>
    </Card>
  );
}

function actorOf({ actor, address }: AuditEntry) {
  const name = { user: "", key: "key ", operator: "the command line", system: "Sluice" }[actor.kind];
  return <>{name}{visible(actor.name ?? "")}{address && <div className="small muted">{address}</div>}</>;
}

function Changes({ changes }: { changes: AuditEntry["changes"] }) {
  const fields = Object.entries(changes);
  if (fields.length === 0) return <span className="muted">none</span>;
  return (
    <details>
      <summary>{fields.map(([field]) => visible(field)).join(", ")}</summary>
      <pre className={parts.answer} tabIndex={0}>{visible(JSON.stringify(changes, null, 1)).replaceAll("␊", "\n")}</pre>
    </details>
  );
}
