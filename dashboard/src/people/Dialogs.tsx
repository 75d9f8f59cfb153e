// What may be done with keys and people. This module brings React Aria, so it is loaded when one of them is asked for.
import { useState } from "react";
import type { Schemas } from "../api/client";
import type { ApiKey, Invitation, Member } from "../api/queries";
import { useView } from "../frame/view";
import { useWrite } from "../frame/write";
import { Confirm, Dialog } from "../parts/dialog";
import { FormDialog, SecretDialog } from "../parts/dialogs";
import { Check, Select, TextField, textOf } from "../parts/form";
import { Button } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";
import { ROLES } from "./roles";

export type Asked =
  | { act: "createKey" }
  | { act: "revokeKey"; key: ApiKey }
  | { act: "addMember" }
  | { act: "changeRole"; member: Member }
  | { act: "removeMember"; member: Member }
  | { act: "revokeInvitation"; invitation: Invitation };

export default function Dialogs({ asked, onClose }: { asked: Asked; onClose: () => void }) {
  switch (asked.act) {
    case "createKey":
      return <CreateKey onClose={onClose} />;
    case "revokeKey":
      return <RevokeKey apiKey={asked.key} onClose={onClose} />;
    case "addMember":
      return <AddMember onClose={onClose} />;
    case "changeRole":
      return <ChangeRole member={asked.member} onClose={onClose} />;
    case "removeMember":
      return <RemoveMember member={asked.member} onClose={onClose} />;
    case "revokeInvitation":
      return <RevokeInvitation invitation={asked.invitation} onClose={onClose} />;
  }
}

function CreateKey({ onClose }: { onClose: () => void }) {
  const { project: slug } = useView();
  const create = useWrite("keys", (client, form: FormData) =>
    client.POST("/v1/projects/{slug}/keys", {
      params: { path: { slug } },
      body: { name: textOf(form, "name"), test: form.get("test") === "on" },
    }),
  );
  if (create.data)
    return (
      <SecretDialog title={`The key ${visible(create.data.name)}`} name="API key" secret={create.data.key} onClose={onClose}>
        <p>
          Programs send it in the header <code>X-SendPipe-Key</code>. {create.data.test ? "Its messages go to the sandbox." : "Its messages are really sent."}
        </p>
      </SecretDialog>
    );
  return (
    <FormDialog title="Create a key" act="Create the key" onSubmit={(form) => create.mutate(form)} onClose={onClose} error={create.error} isPending={create.isPending}>
      <TextField label="Name" name="name" required hint="What uses it, such as the shop or the nightly job." error={create.error} />
      <Check name="test" label="A test key: its messages go to the sandbox" />
    </FormDialog>
  );
}

function RevokeKey({ apiKey, onClose }: { apiKey: ApiKey; onClose: () => void }) {
  const { project: slug } = useView();
  const revoke = useWrite("keys", (client, _: void) =>
    client.DELETE("/v1/projects/{slug}/keys/{key_id}", { params: { path: { slug, key_id: apiKey.id } } }),
  );
  return (
    <Confirm title={`Revoke the key ${visible(apiKey.name)}?`} act="Revoke the key" onAct={() => revoke.mutate(undefined, { onSuccess: onClose })} onClose={onClose} error={revoke.error} isPending={revoke.isPending}>
      <p>
        Within a second every request with <code>{apiKey.prefix}…</code> is refused. Messages that were accepted are still sent. It cannot be taken back.
      </p>
    </Confirm>
  );
}

const RoleSelect = ({ error, role = "DEVELOPER" }: { error: unknown; role?: Schemas["V1Role"] }) => (
  <Select label="Role" name="role" defaultValue={role} error={error}>
    {Object.entries(ROLES).map(([name, may]) => <option key={name} value={name}>{`${name}: ${may}`}</option>)}
  </Select>
);

const roleOf = (form: FormData) => textOf(form, "role") as Schemas["V1Role"];

function AddMember({ onClose }: { onClose: () => void }) {
  const { project: slug } = useView();
  const add = useWrite("members", (client, form: FormData) =>
    client.POST("/v1/projects/{slug}/members", { params: { path: { slug } }, body: { email: textOf(form, "email"), role: roleOf(form) } }),
  );
  if (add.data && "url" in add.data && add.data.url)
    return (
      <SecretDialog title="The invitation" name="Link of the invitation" secret={add.data.url} onClose={onClose}>
        <p>No mail could be sent. Give the link to {visible(add.data.email)}: whoever opens it becomes a member.</p>
      </SecretDialog>
    );
  if (add.data)
    return (
      <Dialog title="Done" onClose={onClose}>
        <p role="status">
          {visible(add.data.email)} {"url" in add.data ? "was invited by mail." : "is a member now."}
        </p>
        <div className={parts.dialogActions}>
          <Button kind="main" onClick={onClose}>Close</Button>
        </div>
      </Dialog>
    );
  return (
    <FormDialog title="Add a person" act="Add the person" onSubmit={(form) => add.mutate(form)} onClose={onClose} error={add.error} isPending={add.isPending}>
      <TextField label="E-mail" name="email" type="email" required hint="A person without an account gets an invitation." error={add.error} />
      <RoleSelect error={add.error} />
    </FormDialog>
  );
}

function ChangeRole({ member, onClose }: { member: Member; onClose: () => void }) {
  const { project: slug } = useView();
  const [role, setRole] = useState(member.role);
  const change = useWrite("members", (client, next: Schemas["V1Role"]) =>
    client.PATCH("/v1/projects/{slug}/members/{user_id}", { params: { path: { slug, user_id: member.user_id } }, body: { role: next } }),
  );
  return (
    <FormDialog title={`The role of ${visible(member.name || member.email)}`} act="Save the role" onSubmit={() => change.mutate(role, { onSuccess: onClose })} onClose={onClose} error={change.error} isPending={change.isPending}>
      <fieldset className="stack" style={{ border: 0, margin: 0, padding: 0 }}>
        <legend className="visually-hidden">Role</legend>
        {Object.entries(ROLES).map(([name, may]) => (
          <label key={name} className={parts.check}>
            <input type="radio" name="role" value={name} checked={role === name} onChange={() => setRole(name as Member["role"])} />
            <span><b>{name}</b> {may}</span>
          </label>
        ))}
      </fieldset>
      <p className="small muted">It counts from the next request of that person.</p>
    </FormDialog>
  );
}

function RemoveMember({ member, onClose }: { member: Member; onClose: () => void }) {
  const { project: slug } = useView();
  const remove = useWrite("members", (client, _: void) =>
    client.DELETE("/v1/projects/{slug}/members/{user_id}", { params: { path: { slug, user_id: member.user_id } } }),
  );
  return (
    <Confirm title={`Remove ${visible(member.name || member.email)}?`} act="Remove the member" onAct={() => remove.mutate(undefined, { onSuccess: onClose })} onClose={onClose} error={remove.error} isPending={remove.isPending}>
      <p>{visible(member.email)} sees nothing of this project from the next request on. Keys that this person made stay valid.</p>
    </Confirm>
  );
}

function RevokeInvitation({ invitation, onClose }: { invitation: Invitation; onClose: () => void }) {
  const { project: slug } = useView();
  const revoke = useWrite("members", (client, _: void) =>
    client.DELETE("/v1/projects/{slug}/invitations/{invitation_id}", { params: { path: { slug, invitation_id: invitation.id } } }),
  );
  return (
    <Confirm title="Revoke the invitation?" act="Revoke the invitation" onAct={() => revoke.mutate(undefined, { onSuccess: onClose })} onClose={onClose} error={revoke.error} isPending={revoke.isPending}>
      <p>The link that {visible(invitation.email)} has stops working.</p>
    </Confirm>
  );
}
