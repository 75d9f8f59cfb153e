import type { Message } from "../api/queries";

/** A request that sends such a message; the content is not in the answer of the API, so it is a placeholder. */
export function curlOf(message: Message, origin: string): string {
  const body = {
    channel: message.channel,
    ...(message.from ? { from: message.from } : {}),
    to: message.to,
    ...(message.subject && message.channel === "email" ? { subject: message.subject } : {}),
    text: "…",
    class: message.class,
    ...(message.tags.length > 0 ? { tags: message.tags } : {}),
  };
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl -s ${origin}/v1/messages/channel -H "X-SendPipe-Key: $KEY" -H 'Content-Type: application/json' -d '${quoted}'`;
}
