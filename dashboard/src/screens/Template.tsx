// One template: its sources, their errors at the line, and what they yield, before anything is saved.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { ApiError, type Schemas } from "../api/client";
import { previewQuery, type Template, type TemplateKind, templateQuery } from "../api/queries";
import { useRole, useView } from "../frame/view";
import { useWrite } from "../frame/write";
import { ErrorNote, Panel, Skeleton } from "../parts/panel";
import { Button, Card, Note } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";
import { useTitle } from "../parts/title";
import { HtmlPreview } from "../templates/HtmlPreview";
import { SourceEditor } from "../templates/SourceEditor";
import style from "../templates/SourceEditor.module.css";
import { bodyOf, KIND_NAMES, type Part, PARTS, sampleOf, type Sources, valuesOf } from "../templates/sources";

const Dialogs = lazy(() => import("../templates/Dialogs"));
const AFTER_TYPING = 300;

export function TemplateScreen() {
  const { templateId } = useParams({ from: "/p/$project/templates/$templateId" });
  return templateId === "new" ? <Editor key="new" /> : <Existing key={templateId} id={templateId} />;
}

function Existing({ id }: { id: string }) {
  const query = useQuery({ ...templateQuery(useView(), id), refetchOnWindowFocus: false });
  return (
    <Panel query={query} skeleton={<Skeleton lines={8} />}>
      {(template) => <Editor template={template} />}
    </Panel>
  );
}

/** The value as it was some time ago, while it changes. */
function useSettled<Value>(value: Value): Value {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), AFTER_TYPING);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

/** What is being written. ``version``: the one that it began from; a template may be saved elsewhere meanwhile. */
function useDraft(template: Template | undefined) {
  const [kind, setKind] = useState<TemplateKind>(template?.kind ?? "email");
  const [name, setName] = useState(template?.name ?? "");
  const [version, setVersion] = useState(template?.version);
  const [sources, setSources] = useState<Sources>(() =>
    template ? { subject: template.subject ?? "", html: template.html ?? "", text: template.text ?? "" } : { subject: "Hello {{ name }}", html: "<p>Hello {{ name }}</p>\n", text: "" },
  );
  return { kind, setKind, name, setName, version, setVersion, sources, setSource: (part: Part, text: string) => setSources((last) => ({ ...last, [part]: text })) };
}

type Draft = ReturnType<typeof useDraft>;

const errorAt = (error: unknown, part: string) => (error instanceof ApiError && error.field?.split(".")[0] === part ? error : null);

function Editor({ template }: { template?: Template }) {
  useTitle(template ? template.name : "A new template");
  const { project } = useView();
  const mayWrite = useRole() !== "VIEWER";
  const draft = useDraft(template);
  const [isAsked, setAsked] = useState(false);
  const [variables, setVariables] = useState<string | null>(null);
  const body = useSettled(JSON.stringify({ kind: draft.kind, ...bodyOf(draft.kind, draft.sources), data: template?.data ?? null }));
  const preview = usePreview(body, variables, template?.variables ?? []);
  const places = PARTS[draft.kind].map(([part]) => errorAt(preview.error, part));
  return (
    <>
      <div className="heading">
        <h1>{template ? visible(template.name) : "A new template"}</h1>
        <Link to="/p/$project/templates" params={{ project }}>All templates</Link>
      </div>
      <div className={style.columns}>
        <Card title="Source" aside={template && <>{KIND_NAMES[template.kind]}, version {draft.version}, <code>{template.id}</code></>}>
          <NameAndKind draft={draft} isNew={!template} readOnly={!mayWrite} />
          {PARTS[draft.kind].map(([part, label], index) => (
            <SourceEditor
              key={part}
              label={label}
              value={draft.sources[part] ?? ""}
              onChange={(text) => draft.setSource(part, text)}
              rows={part === "subject" ? 1 : part === "html" ? 14 : 6}
              error={places[index] ?? null}
              readOnly={!mayWrite}
            />
          ))}
          {preview.error && places.every((one) => one === null) && <ErrorNote error={preview.error} />}
          {mayWrite && <Save template={template} draft={draft} onDelete={() => setAsked(true)} />}
        </Card>
        <Preview preview={preview} variables={variables} onVariables={setVariables} />
      </div>
      <Suspense>{isAsked && template && <Dialogs template={template} onClose={() => setAsked(false)} />}</Suspense>
    </>
  );
}

function NameAndKind({ draft, isNew, readOnly }: { draft: Draft; isNew: boolean; readOnly: boolean }) {
  return (
    <div className={parts.filters}>
      <label>
        Name
        <input value={draft.name} maxLength={255} autoComplete="off" readOnly={readOnly} onChange={(event) => draft.setName(event.target.value)} />
      </label>
      {isNew && (
        <label>
          Kind
          <select value={draft.kind} disabled={readOnly} onChange={(event) => draft.setKind(event.target.value as TemplateKind)}>
            {Object.entries(KIND_NAMES).map(([value, text]) => <option key={value} value={value}>{text}</option>)}
          </select>
        </label>
      )}
    </div>
  );
}

/** What the sources yield with these values; by default each variable has its own name as its value. */
function usePreview(body: string, variables: string | null, known: string[]) {
  const view = useView();
  const [paths, setPaths] = useState(known);
  const given = valuesOf(useSettled(variables ?? ""));
  const values = variables === null ? sampleOf(paths) : "values" in given ? given.values : {};
  const query = useQuery(previewQuery(view, { ...(JSON.parse(body) as Omit<Schemas["PreviewSourcesRequest"], "variables">), variables: values }));
  // What was there last stays until the next answer, and the last good preview also beside an error.
  const last = useRef<Pick<typeof query, "data" | "error">>({ data: undefined, error: null });
  if (query.isSuccess) last.current = { data: query.data, error: null };
  if (query.isError) last.current = { ...last.current, error: query.error };
  const read = query.data?.variables;
  useEffect(() => {
    if (read && JSON.stringify(read) !== JSON.stringify(paths)) setPaths(read);
  }, [read, paths]);
  return { ...last.current, paths, sample: JSON.stringify(sampleOf(paths), null, 2), fault: "error" in given ? given.error : null };
}

function Preview({ preview, variables, onVariables }: {
  preview: ReturnType<typeof usePreview>;
  variables: string | null;
  onVariables: (text: string | null) => void;
}) {
  const { data, error } = preview;
  return (
    <div className="stack stack-wide">
      <Card title="Preview" aside={error ? "As it was before the error" : "Nothing is saved or sent by looking at it"}>
        {!data && !error && <Skeleton />}
        {!data && error && <p className="muted">There is no preview until the sources are right.</p>}
        {data && (
          <div className={`stack ${error ? style.stale : ""}`}>
            {data.subject !== null && <p><span className="muted">Subject</span> <b>{visible(data.subject)}</b></p>}
            {data.html !== null && <HtmlPreview html={data.html} />}
            {data.text !== null && <><h3>Text</h3><div className={style.shown}>{data.text}</div></>}
            {data.data && <><h3>Data</h3><div className={style.shown}>{visible(JSON.stringify(data.data))}</div></>}
          </div>
        )}
      </Card>
      <Card title="Values of the variables" aside={preview.paths.length === 0 ? "It reads none" : visible(preview.paths.join(", "))}>
        <label className={parts.field}>
          <span>JSON</span>
          <textarea rows={6} className="mono" spellCheck={false} value={variables ?? preview.sample} onChange={(event) => onVariables(event.target.value)} />
        </label>
        {preview.fault && <p className={style.error} role="status">{preview.fault}</p>}
        {variables !== null && <span><Button kind="plain" onClick={() => onVariables(null)}>Back to the names as values</Button></span>}
      </Card>
    </div>
  );
}

function Save({ template, draft, onDelete }: { template?: Template; draft: Draft; onDelete: () => void }) {
  const { project } = useView();
  const navigate = useNavigate();
  const sources = bodyOf(draft.kind, draft.sources);
  const save = useWrite("templates", (client, over: number | null) =>
    template
      ? client.PATCH("/v1/templates/{template_id}", {
          params: { path: { template_id: template.id } },
          body: { name: draft.name, version: over ?? draft.version, ...sources },
        })
      : client.POST("/v1/templates", { body: { name: draft.name, kind: draft.kind, ...sources } }),
  );
  const onSuccess = (saved: Template) => {
    draft.setVersion(saved.version);
    if (!template) void navigate({ to: "/p/$project/templates/$templateId", params: { project, templateId: saved.id } });
  };
  const isConflict = save.error instanceof ApiError && save.error.status === 409 && template !== undefined;
  return (
    <>
      {save.error && !isConflict && <ErrorNote error={save.error} />}
      {isConflict && (
        <Note
          tone="warn"
          lead={`Version ${template.version} was saved elsewhere meanwhile.`}
          actions={<Button kind="stop" onClick={() => save.mutate(template.version, { onSuccess })}>Save mine as the newest version</Button>}
        >
          <p>Messages use the newest version. Reloading the page shows it, without what is written here.</p>
        </Note>
      )}
      {save.isSuccess && <p role="status">Saved as version {save.data.version}. Messages that are accepted from now on use it.</p>}
      <div className={parts.actions}>
        <Button kind="main" onClick={() => save.mutate(null, { onSuccess })} disabled={save.isPending || draft.name.trim() === ""}>
          {template ? "Save the template" : "Create the template"}
        </Button>
        {template && <Button kind="stop" onClick={onDelete}>Delete…</Button>}
      </div>
    </>
  );
}
