// The screens of what a project has configured and measured: for the navigation, the finder and the keys.
import { Link } from "@tanstack/react-router";
import { type Role, useRole, useView } from "./view";

const SCREENS = [
  { label: "Analytics", path: "/p/$project/analytics", key: "a", forViewers: true },
  { label: "Templates", path: "/p/$project/templates", key: "t", forViewers: false },
  { label: "Webhooks", path: "/p/$project/webhooks", key: "w", forViewers: false },
  { label: "Suppressions", path: "/p/$project/suppressions", key: "", forViewers: false },
  { label: "Keys and people", path: "/p/$project/keys", key: "", forViewers: false },
  { label: "System", path: "/p/$project/system", key: "", forViewers: false },
] as const;

type Path = (typeof SCREENS)[number]["path"];

export const screensOf = (role: Role) => SCREENS.filter((screen) => screen.forViewers || role !== "VIEWER");

export function projectShortcuts(go: (path: Path) => void): Record<string, () => void> {
  return Object.fromEntries(SCREENS.filter(({ key }) => key).map(({ key, path }) => [`g ${key}`, () => go(path)]));
}

export function ProjectScreens() {
  const { project } = useView();
  return screensOf(useRole()).map(({ label, path }) => (
    <li key={path}>
      <Link to={path} params={{ project }} activeOptions={{ includeSearch: false }}>
        {label}
      </Link>
    </li>
  ));
}
