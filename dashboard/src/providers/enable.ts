// Whether a provider is used.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { apiOf, dataOf } from "../api/client";
import { type Provider, providersQuery } from "../api/queries";
import { useView } from "../frame/view";

export function useEnable(provider: Provider) {
  const view = useView();
  const queryClient = useQueryClient();
  return useMutation({
    mutationFn: (enabled: boolean) =>
      dataOf(
        apiOf(view).PATCH("/v1/providers/{provider_id}", {
          params: { path: { provider_id: provider.id } },
          body: { enabled, version: provider.version },
        }),
      ),
    onSuccess: () => queryClient.invalidateQueries({ queryKey: providersQuery(view).queryKey }),
  });
}
