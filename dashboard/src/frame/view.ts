// The project, the mode and the role of the current view.
import { useQuery } from "@tanstack/react-query";
import { useParams, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import type { View } from "../api/client";
import { meQuery } from "../api/queries";

export function useView(): View {
  const { project } = useParams({ from: "/p/$project" });
  const { mode } = useSearch({ from: "/p/$project" });
  return useMemo(() => ({ project, mode: mode ?? "live" }), [project, mode]);
}

export type Role = "ADMIN" | "DEVELOPER" | "VIEWER";

/** The role in the project of the view; the least one until it is known. */
export function useRole(): Role {
  const { project } = useView();
  const { data } = useQuery(meQuery);
  return (data?.projects.find((one) => one.slug === project)?.role as Role | undefined) ?? "VIEWER";
}
