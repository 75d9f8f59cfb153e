/** "41 %", "0.6 %": two digits at most say what is known. */
export function percent(rate: number): string {
  const value = rate * 100;
  if (value > 0 && value < 0.05) return "< 0.1 %";
  return `${value >= 9.95 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
}
