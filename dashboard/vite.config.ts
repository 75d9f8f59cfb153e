import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `build.py` names the directory of the build; the API is that of a running gateway while developing.
const gateway = process.env.SLUICE_API_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    manifest: true,
    modulePreload: { polyfill: false },
    target: "es2023",
    assetsInlineLimit: 0,
  },
  css: { modules: { localsConvention: "camelCaseOnly" } },
  server: { proxy: { "/v1": gateway } },
});
