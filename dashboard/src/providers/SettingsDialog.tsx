// Changes the limits, the share and the price of a provider.
import type { Provider } from "../api/queries";
import { useWrite } from "../frame/write";
import { FormDialog } from "../parts/dialogs";
import { TextField, textOf } from "../parts/form";
import { visible } from "../parts/text";
import { settingsOf } from "./settings";

export default function SettingsDialog({ provider, onClose }: { provider: Provider; onClose: () => void }) {
  const change = useWrite("providers", (client, form: FormData) => {
    // An empty field is null: the default of the setting.
    const settings = Object.fromEntries(settingsOf(provider).map(({ name }) => [name, textOf(form, name) === "" ? null : Number(textOf(form, name))]));
    return client.PATCH("/v1/providers/{provider_id}", {
      params: { path: { provider_id: provider.id } },
      body: { settings, version: provider.version },
    });
  });
  return (
    <FormDialog
      title={`Settings of ${visible(provider.name)}`}
      act="Save the settings"
      onSubmit={(form) => change.mutate(form, { onSuccess: onClose })}
      onClose={onClose}
      error={change.error}
      isPending={change.isPending}
    >
      <p>They count at the router and the workers within a second.</p>
      {settingsOf(provider).map(({ name, label, hint, min, max, step }) => (
        <TextField
          key={name}
          type="number"
          label={label}
          name={name}
          hint={hint}
          {...{ min, max, step }}
          defaultValue={provider.settings[name] ?? ""}
          error={change.error}
        />
      ))}
    </FormDialog>
  );
}
