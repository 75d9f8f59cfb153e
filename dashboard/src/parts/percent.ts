/** "41 %", "0.6 %": two digits at most say what is known. No line ends before the sign. */
export function percent(rate: number): string {
  const value = rate * 100;
  if (value > 0 && value < 0.05) return "<\u00a00.1\u00a0%";
  return `${value >= 9.95 || value === 0 ? Math.round(value) : value.toFixed(1)}\u00a0%`;
}
