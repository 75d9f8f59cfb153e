import { Brand } from "../frame/Brand";
import { useTitle } from "../parts/title";

/** A person without a project. */
export default function NoProject() {
  useTitle("No project");
  return (
    <main className="plain-page">
      <Brand />
      <h1>You are a member of no project yet</h1>
      <p>
        An administrator can invite you, or <code>sluice demo</code> on the machine of the installation makes a first project, and{" "}
        <code>sluice setup-link</code> makes you its owner.
      </p>
    </main>
  );
}
