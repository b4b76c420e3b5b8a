/* Blocking and small: settles the theme before the first paint and tells the server how wide charts may be. */
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("pk-js");
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  function settle() {
    var choice = root.getAttribute("data-theme-choice") || "system";
    root.setAttribute("data-bs-theme", choice === "system" ? (system.matches ? "dark" : "light") : choice);
  }
  settle();
  system.addEventListener("change", settle);
  window.addEventListener("pk:theme", settle);
  var room = Math.min(window.innerWidth - (window.innerWidth > 860 ? 320 : 72), 1040);
  var width = [1040, 760, 560, 360].find(function (step) { return step <= room; }) || 360;
  document.cookie = "pk_w=" + width + "; path=/; max-age=31536000; SameSite=Lax";
})();
