// Prints the path of the Chromium of the package, which is unpacked into TMPDIR at the first run.
import chromium from "@sparticuz/chromium";

console.log(await chromium.executablePath());
