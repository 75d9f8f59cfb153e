// Where the links of `sluice setup-link`, of mails and of invitations lead: the token is behind the `#`.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useLocation, useNavigate } from "@tanstack/react-router";
import { type SyntheticEvent, useEffect, useRef, useState } from "react";
import { api, dataOf } from "../api/client";
import { Brand } from "../frame/Brand";
import { ErrorNote, Skeleton } from "../parts/panel";
import { Button } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { useTitle } from "../parts/title";

type Kind = "setup" | "reset-password" | "accept-invitation";

interface Answers {
  password: string;
  name: string;
}

/** A link to set up logs in at once; the others ask for a new password. */
export function LinkLanding() {
  const kind = useLocation({ select: (location) => location.pathname.slice(1) }) as Kind;
  const [token] = useState(takeToken);
  const exchange = useExchange(kind, token);
  const isBegun = useRef(false);
  const { mutate } = exchange;
  useTitle(kind === "setup" ? "Signing in" : "Set a password");
  useEffect(() => {
    if (kind === "setup" && token && !isBegun.current) {
      isBegun.current = true; // a link works once
      mutate(null);
    }
  }, [kind, token, mutate]);
  return (
    <main className="plain-page">
      <Brand />
      {kind === "setup" && <h1>{exchange.error ? "The link does not work" : "Signing in"}</h1>}
      {!token && <ErrorNote error={new Error("The link has no token behind its #.")} />}
      {exchange.error && <ErrorNote error={exchange.error} />}
      {exchange.error && kind === "setup" && (
        <p>
          <code>sluice setup-link</code> prints a new one.
        </p>
      )}
      {kind === "setup" ? !exchange.error && token && <Skeleton /> : token && <PasswordForm kind={kind} exchange={exchange} />}
    </main>
  );
}

/** The token leaves the address bar and the history before anything else happens. */
function takeToken(): string {
  const token = window.location.hash.slice(1);
  window.history.replaceState(window.history.state, "", window.location.pathname);
  return token;
}

function useExchange(kind: Kind, token: string) {
  const navigate = useNavigate();
  const queryClient = useQueryClient();
  return useMutation({
    mutationFn: (answers: Answers | null) => {
      const body = { token, cookie: true, password: answers?.password ?? "" };
      if (kind === "setup") return dataOf(api.POST("/v1/auth/setup", { body: { token, cookie: true } }));
      if (kind === "reset-password") return dataOf(api.POST("/v1/auth/password/reset", { body }));
      return dataOf(api.POST("/v1/auth/invitations/accept", { body: { ...body, name: answers?.name || null } }));
    },
    onSuccess: async () => {
      queryClient.clear();
      await navigate({ to: "/" });
    },
  });
}

function PasswordForm({ kind, exchange }: { kind: Kind; exchange: ReturnType<typeof useExchange> }) {
  const submit = (event: SyntheticEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    exchange.mutate({ password: String(form.get("password")), name: String(form.get("name") ?? "") });
  };
  return (
    <form onSubmit={submit}>
      <h1>{kind === "reset-password" ? "Set a new password" : "Join the project"}</h1>
      {kind === "accept-invitation" && (
        <label className={parts.field}>
          <span>Name</span>
          <input name="name" autoComplete="name" maxLength={255} />
        </label>
      )}
      <label className={parts.field}>
        <span>Password</span>
        <input name="password" type="password" autoComplete="new-password" required autoFocus />
      </label>
      <Button kind="main" type="submit" disabled={exchange.isPending}>
        Set the password and log in
      </Button>
    </form>
  );
}
