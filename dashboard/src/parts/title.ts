import { useEffect } from "react";
import { visible } from "./text";

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${visible(title)} · Sluice`;
  }, [title]);
}
