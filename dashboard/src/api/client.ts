// The HTTP API as the screens use it: the session cookie, the project and the mode of the view, errors as exceptions.
import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./api";

export type Schemas = components["schemas"];

/** The project and the mode of a view; the mode `test` shows what test keys have sent. */
export interface View {
  project: string;
  mode: "live" | "test";
}

/** An error of the API, or none of its answers: status 0. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfter: number | null = null,
    readonly field: string | null = null,
    /** Where in the field the error is, from 1. */
    readonly place: { line: number; column: number } | null = null,
  ) {
    super(message);
  }

  /** The gateway answered nothing: it is down, or there is no network. */
  get isOffline(): boolean {
    return this.status === 0;
  }
}

const errors: Middleware = {
  onRequest({ request }) {
    // Only a script of our own origin can set it; the gateway wants it beside the cookie.
    if (request.method !== "GET") request.headers.set("X-Sluice-CSRF", "1");
    return request;
  },
  async onResponse({ response }) {
    if (!response.ok) throw await readError(response);
  },
  onError({ error }) {
    if (error instanceof ApiError || (error instanceof DOMException && error.name === "AbortError")) return undefined;
    return new ApiError(0, "NO_CONNECTION", "There is no connection to the gateway.");
  },
};

async function readError(response: Response): Promise<ApiError> {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  try {
    const { error } = (await response.json()) as { error: Schemas["V1ErrorDetail"] };
    const place = error.line && error.column ? { line: error.line, column: error.column } : null;
    return new ApiError(response.status, error.code, error.message, retryAfter, error.field ?? null, place);
  } catch {
    return new ApiError(response.status, `HTTP_${response.status}`, "The answer is no error of the API.", retryAfter);
  }
}

/** A client without a project: session, people. */
export const api = createClient<paths>({ baseUrl: window.location.origin });
api.use(errors);

const clients = new Map<string, ReturnType<typeof createClient<paths>>>();

/** The client of a view: every request names its project and mode. */
export function apiOf({ project, mode }: View): ReturnType<typeof createClient<paths>> {
  const key = `${mode}/${project}`;
  let client = clients.get(key);
  if (!client) {
    client = createClient<paths>({
      baseUrl: window.location.origin,
      headers: { "X-SendPipe-Project": project, "X-SendPipe-Mode": mode },
    });
    client.use(errors);
    clients.set(key, client);
  }
  return client;
}

/** A document of the API as text; its errors are those of the API. */
export async function readText(address: string, signal: AbortSignal): Promise<string> {
  const response = await fetch(address, { signal }).catch((error) => {
    throw error instanceof DOMException ? error : new ApiError(0, "NO_CONNECTION", "There is no connection to the gateway.");
  });
  if (!response.ok) throw await readError(response);
  return response.text();
}

/** The data of an answer; errors have been thrown. */
export async function dataOf<T>(answer: Promise<{ data?: T }>): Promise<T> {
  const { data } = await answer;
  if (data === undefined) throw new ApiError(0, "EMPTY_ANSWER", "The gateway answered without a body.");
  return data;
}
