// Changes through the API, and what is fetched again after them.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { apiOf, dataOf } from "../api/client";
import { keyOf } from "../api/pages";
import { useView } from "./view";

type Client = ReturnType<typeof apiOf>;

/** A change; afterwards everything that the view shows of `noun` is fetched again, also when it was refused as out of date. */
export function useWrite<Value, Answer>(noun: string, write: (client: Client, value: Value) => Promise<{ data?: Answer }>) {
  const view = useView();
  const queryClient = useQueryClient();
  return useMutation({
    mutationFn: (value: Value) => dataOf(write(apiOf(view), value)),
    onSettled: () => queryClient.invalidateQueries({ queryKey: keyOf(view, noun) }),
  });
}
