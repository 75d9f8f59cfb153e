import "./styles/base.css";
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "./api/client";
import { applyTheme } from "./frame/preferences";
import { createAppRouter } from "./router";

applyTheme();

/** A session that ended leads to the login, and back to the same view. */
function onError(error: unknown): void {
  const { pathname, href } = router.state.location;
  if (error instanceof ApiError && error.status === 401 && pathname.startsWith("/p/"))
    void router.navigate({ to: "/login", search: { next: href } });
}

const queryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // A refused request is refused again; a gateway that is away comes back.
      retry: (failures, error) => !(error instanceof ApiError && error.status >= 400 && error.status < 500) && failures < 2,
      retryDelay: (failures) => Math.min(1_000 * 2 ** failures, 5_000),
    },
  },
});
const router = createAppRouter(queryClient);

createRoot(document.getElementById("app")!).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <RouterProvider router={router} />
    </QueryClientProvider>
  </StrictMode>,
);
