export function Brand() {
  return (
    <span className="brand">
      <svg viewBox="0 0 20 20" aria-hidden="true" fill="none" stroke="currentColor" strokeWidth="2">
        <path d="M3 2v16M17 2v16M3 7h14M7 7v6h6V7M1 16q3-2 6 0t6 0 6 0" />
      </svg>
      Sluice
    </span>
  );
}
