import { Link, useRouter } from "@tanstack/react-router";
import { ErrorNote } from "../parts/panel";

export function NotFound() {
  return (
    <main className="plain-page">
      <h1>There is no such page</h1>
      <p>
        <Link to="/">To the overview</Link>
      </p>
    </main>
  );
}

/** A page whose code or first data could not be fetched. */
export function RouteError({ error }: { error: unknown }) {
  const router = useRouter();
  return <ErrorNote error={error} retry={() => void router.invalidate()} />;
}
