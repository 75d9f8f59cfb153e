// What this browser remembers: the theme, the project of the last visit, whether single keys act.

const read = (name: string) => {
  try {
    return localStorage.getItem(`sluice.${name}`);
  } catch {
    return null; // storage may be switched off
  }
};

const write = (name: string, value: string | null) => {
  try {
    if (value === null) localStorage.removeItem(`sluice.${name}`);
    else localStorage.setItem(`sluice.${name}`, value);
  } catch {
    // The choice lasts as long as the page then.
  }
};

export type Theme = "light" | "dark" | "system";

export const theme = (): Theme => {
  const chosen = read("theme");
  return chosen === "light" || chosen === "dark" ? chosen : "system";
};

export function applyTheme(chosen: Theme = theme()): void {
  write("theme", chosen === "system" ? null : chosen);
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

export const lastProject = () => read("project");
export const rememberProject = (slug: string) => write("project", slug);

export const singleKeys = () => read("keys") !== "off";
export const setSingleKeys = (on: boolean) => write("keys", on ? null : "off");
