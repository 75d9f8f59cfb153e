// Tables that become cards on a narrow screen.
import type { ReactNode } from "react";
import style from "./parts.module.css";

/** A heading, and what a row has under it. A column of acts has the heading "". */
export type Column<Row> = [string, (row: Row) => ReactNode];

export function Table<Row>({ label, rows, columns, keyOf, isCurrent }: {
  label: string;
  rows: readonly Row[];
  columns: Column<Row>[];
  keyOf: (row: Row) => string;
  isCurrent?: (row: Row) => boolean;
}) {
  return (
    // A table that is wider than its place is scrolled by keyboard, too.
    <div className={style.rows} tabIndex={0} role="group" aria-label={label}>
      <table aria-label={label}>
        <thead>
          <tr>
            {columns.map(([name]) => (
              <th key={name} scope="col">
                {name || <span className="visually-hidden">Acts</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)} aria-current={isCurrent?.(row) ? "true" : undefined}>
              {columns.map(([name, show]) => (
                <td key={name} data-label={name || undefined}>
                  {show(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
