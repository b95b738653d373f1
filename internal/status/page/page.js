// Keeps the page current: whenever the agent says that something changed, the page is fetched again and the parts marked data-live that differ are replaced.
// Without this script the page reloads itself.
"use strict";

(() => {
  if (!document.querySelector("[data-live]")) {
    return; // a page without a state of its own
  }
  const pauseMs = 500; // at least this between two fetches: a burst of changes is one
  const tickMs = 15000; // relative times grow old
  const lost = document.getElementById("link");
  let timer = 0;
  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    again = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok) {
        replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } else if (answer.status === 404) {
        location.reload(); // the target is gone, and the page for that says so
      }
    } catch {
      // The event stream notices that the agent is gone, and says so.
    } finally {
      busy = false;
      if (again) {
        soon();
      }
    }
  }

  function replace(next) {
    document.title = next.title;
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = next.getElementById(old.id);
      if (!fresh || fresh.isEqualNode(old)) {
        continue;
      }
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      const left = old.querySelector(".scroll")?.scrollLeft ?? 0;
      old.replaceWith(document.adoptNode(fresh));
      if (focused) {
        document.getElementById(focused)?.focus({ preventScroll: true });
      }
      if (left) {
        fresh.querySelector(".scroll").scrollLeft = left;
      }
    }
  }

  function soon() {
    if (!timer && !document.hidden) {
      timer = setTimeout(() => {
        timer = 0;
        refresh();
      }, pauseMs);
    }
  }

  const events = new EventSource(document.body.dataset.events);
  events.onopen = () => { lost.hidden = true; };
  events.onerror = () => { lost.hidden = false; };
  for (const kind of ["status", "head", "source", "target", "gone"]) {
    events.addEventListener(kind, soon);
  }
  setInterval(soon, tickMs);
  document.addEventListener("visibilitychange", soon);
})();
