// Deleting a template. This module brings React Aria, so it is loaded when it is asked for.
import { useNavigate } from "@tanstack/react-router";
import type { Template } from "../api/queries";
import { useView } from "../frame/view";
import { useWrite } from "../frame/write";
import { Confirm } from "../parts/dialog";
import { visible } from "../parts/text";

export default function DeleteTemplate({ template, onClose }: { template: Template; onClose: () => void }) {
  const { project } = useView();
  const navigate = useNavigate();
  const remove = useWrite("templates", (client, _: void) =>
    client.DELETE("/v1/templates/{template_id}", { params: { path: { template_id: template.id } } }),
  );
  const onAct = () => remove.mutate(undefined, { onSuccess: () => void navigate({ to: "/p/$project/templates", params: { project } }) });
  return (
    <Confirm title={`Delete ${visible(template.name)}?`} act="Delete the template" onAct={onAct} onClose={onClose} error={remove.error} isPending={remove.isPending}>
      <p>Requests that name it are refused from then on. Messages that are accepted already are sent.</p>
    </Confirm>
  );
}
