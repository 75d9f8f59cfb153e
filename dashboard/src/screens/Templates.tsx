// The templates of the project.
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type TemplateKind, templatesQuery } from "../api/queries";
import { useRole, useView } from "../frame/view";
import { Pages } from "../parts/pages";
import { buttonClass } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { Table } from "../parts/table";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import { KIND_NAMES } from "../templates/sources";

const FROM = "/p/$project/templates";

export function Templates() {
  useTitle("Templates");
  const { project } = useView();
  const mayWrite = useRole() !== "VIEWER";
  const { kind, name = "" } = useSearch({ from: FROM });
  const navigate = useNavigate({ from: FROM });
  const query = useInfiniteQuery(templatesQuery(useView(), kind));
  return (
    <>
      <div className="heading">
        <h1>Templates</h1>
        {mayWrite && <Link to="/p/$project/templates/$templateId" params={{ project, templateId: "new" }} className={buttonClass("main")}>Write a template</Link>}
      </div>
      <div className={parts.filters} role="search" aria-label="Filter the templates">
        <label>
          Kind
          <select value={kind ?? ""} onChange={(event) => void navigate({ search: (last) => ({ ...last, kind: (event.target.value || undefined) as TemplateKind | undefined }), replace: true })}>
            <option value="">any</option>
            {Object.entries(KIND_NAMES).map(([value, text]) => <option key={value} value={value}>{text}</option>)}
          </select>
        </label>
        <label>
          Name contains
          <input value={name} autoComplete="off" onChange={(event) => void navigate({ search: (last) => ({ ...last, name: event.target.value || undefined }), replace: true })} />
        </label>
      </div>
      <section className={parts.card} aria-label="Templates">
        <Pages query={query} empty={<p>{kind ? `No template of the kind ${KIND_NAMES[kind]}.` : "No template yet. A message that names one gets its subject and texts from there, with the values that it brings."}</p>}>
          {(rows) => {
            const shown = rows.filter((row) => row.name.toLowerCase().includes(name.toLowerCase()));
            if (shown.length === 0) return <p className={parts.more} role="status">No loaded template has “{visible(name)}” in its name.</p>;
            return (
              <Table
                label="Templates"
                rows={shown}
                keyOf={(row) => row.id}
                columns={[
                  ["Name", (row) => <Link to="/p/$project/templates/$templateId" params={{ project, templateId: row.id }}>{visible(row.name)}</Link>],
                  ["Kind", (row) => KIND_NAMES[row.kind]],
                  ["Version", (row) => row.version],
                  ["Variables", (row) => <span className="small">{visible(row.variables.join(", ")) || <span className="muted">none</span>}</span>],
                  ["Changed", (row) => <Moment at={row.updated_at} />],
                ]}
              />
            );
          }}
        </Pages>
      </section>
    </>
  );
}
