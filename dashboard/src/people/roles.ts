import type { Schemas } from "../api/client";

/** What each role may do. */
export const ROLES: Record<Schemas["V1Role"], string> = {
  ADMIN: "everything, with members and the audit log",
  DEVELOPER: "everything but members and the audit log",
  VIEWER: "reads messages and analytics",
};
