// HTML of a template in a frame without an origin: it runs nothing and loads nothing.
import { useEffect, useRef, useState } from "react";
import style from "./SourceEditor.module.css";

const WIDTHS = { 360: "360 pixels", 600: "600 pixels", full: "Full width" } as const;

export function HtmlPreview({ html }: { html: string }) {
  const frame = useRef<HTMLIFrameElement>(null);
  const [width, setWidth] = useState<keyof typeof WIDTHS>("full");
  const [isDark, setDark] = useState(false);
  const [loaded, setLoaded] = useState(0);
  // The frame has no origin that a message could be addressed to.
  useEffect(() => {
    if (loaded > 0) frame.current?.contentWindow?.postMessage({ html }, "*");
  }, [html, loaded]);
  return (
    <div className="stack">
      <div className="row small">
        <label className="row">
          Width
          <select value={width} onChange={(event) => setWidth(event.target.value as keyof typeof WIDTHS)}>
            {Object.entries(WIDTHS).map(([value, name]) => <option key={value} value={value}>{name}</option>)}
          </select>
        </label>
        <label className="row">
          <input type="checkbox" checked={isDark} onChange={(event) => setDark(event.target.checked)} />
          Dark
        </label>
        <span className="muted">Images are not loaded.</span>
      </div>
      <iframe
        ref={frame}
        title="The HTML part"
        src="/preview"
        sandbox="allow-scripts"
        className={`${style.frame} ${isDark ? style.dark : ""}`}
        style={{ maxWidth: width === "full" ? undefined : `${width}px` }}
        onLoad={() => setLoaded((times) => times + 1)}
      />
    </div>
  );
}
