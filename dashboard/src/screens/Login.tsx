import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRouter, useSearch } from "@tanstack/react-router";
import type { SyntheticEvent } from "react";
import { api, dataOf } from "../api/client";
import { Brand } from "../frame/Brand";
import { ErrorNote } from "../parts/panel";
import { Button } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { useTitle } from "../parts/title";

/** Log in with a password. The session is a cookie that no script can read. */
export function Login() {
  useTitle("Log in");
  const { next } = useSearch({ from: "/login" });
  const router = useRouter();
  const queryClient = useQueryClient();
  const login = useMutation({
    mutationFn: (form: FormData) =>
      dataOf(
        api.POST("/v1/auth/login", {
          body: { email: String(form.get("email")), password: String(form.get("password")), cookie: true },
        }),
      ),
    onSuccess: () => {
      queryClient.clear();
      // Only a path of ours: a link must not lead elsewhere after a login.
      router.history.push(next && /^\/(?![/\\])/.test(next) ? next : "/");
    },
  });
  const submit = (event: SyntheticEvent<HTMLFormElement>) => {
    event.preventDefault();
    login.mutate(new FormData(event.currentTarget));
  };
  return (
    <main className="plain-page">
      <Brand />
      <h1>Log in</h1>
      {login.error && <ErrorNote error={login.error} />}
      <form onSubmit={submit}>
        <label className={parts.field}>
          <span>E-mail</span>
          <input name="email" type="email" autoComplete="username" required autoFocus />
        </label>
        <label className={parts.field}>
          <span>Password</span>
          <input name="password" type="password" autoComplete="current-password" required />
        </label>
        <Button kind="main" type="submit" disabled={login.isPending}>
          Log in
        </Button>
      </form>
      <p className="small muted">
        On the machine of the installation <code>sluice setup-link</code> prints a link that logs in without a password.
      </p>
    </main>
  );
}
