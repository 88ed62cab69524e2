/* Small additions to pages that work without them: live parts, local times, filters, dialogs. */
(() => {
  "use strict";

  // A live part is swapped only by a fragment of ours; a login page or an error leaves what is there.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.getResponseHeader("DS01-Fragment") === null) event.detail.shouldSwap = false;
  });
  // Each live part brings the key for the next; after a log-out there is none, and the page is read anew.
  let key = "";
  document.addEventListener("htmx:beforeSwap", (event) => {
    key = event.detail.xhr.getResponseHeader("DS01-Key") || key;
  });
  document.addEventListener("htmx:configRequest", (event) => {
    if (key && event.detail.headers["X-DS01-Key"]) event.detail.headers["X-DS01-Key"] = key;
  });
  document.addEventListener("htmx:responseError", (event) => {
    const asked = event.detail.requestConfig?.headers?.["X-DS01-Key"];
    const filled = document.querySelector("form input:not([type=hidden]), form select, form textarea");
    if (event.detail.xhr.status === 403 && asked && !filled) window.location.reload();
  });
  // A tab nobody looks at does not ask, and nothing is swapped under a dialog that is open.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.visibilityState === "hidden" || event.detail.target.querySelector("dialog[open]")) event.preventDefault();
  });
  // What was opened stays open. (Focus stays too, on what has an id.)
  let opened = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    opened = [...event.detail.target.querySelectorAll("details[open][id]")].map((details) => details.id);
    if (event.detail.target.querySelector("dialog[open]")) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  });

  const absolute = new Intl.DateTimeFormat(undefined, {
    weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
  });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

  const span = (seconds) => {
    const minutes = Math.max(0, Math.floor(seconds / 60));
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
  };

  const localise = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const when = new Date(time.dateTime);
      if (isNaN(when)) continue;
      if ("ds01Clock" in time.dataset) time.textContent = clock.format(when);
      else if ("ds01Left" in time.dataset) time.textContent = span((when - Date.now()) / 1000);
      else time.textContent = absolute.format(when);
    }
  };

  const filters = (root) => {
    for (const input of root.querySelectorAll("input[data-ds01-filter]")) {
      const list = document.getElementById(input.dataset.ds01Filter);
      input.hidden = false;
      input.addEventListener("input", () => {
        const wanted = input.value.trim().toLowerCase();
        for (const choice of list.querySelectorAll(".ds01-choice")) {
          const shown = choice.textContent.toLowerCase().includes(wanted) || choice.querySelector(":checked");
          choice.style.display = shown ? "" : "none";
        }
      });
      input.addEventListener("keydown", (event) => {
        if (event.key === "Enter") event.preventDefault();
      });
    }
  };

  // The permalink follows the choices.
  const share = (form) => {
    const link = form.querySelector("a[data-ds01-share]");
    if (!link) return;
    const base = link.href.split("?")[0];
    form.addEventListener("change", () => {
      const query = new URLSearchParams();
      for (const [name, value] of new FormData(form)) {
        if (value && ["project", "environment", "gpu", "gpu_count", "lifetime", "wait"].includes(name)) query.set(name, value);
        if (value && name === "project_new") query.set("project", value);
        if (value && (name === "project_source" || (name === "project_start" && value.startsWith("template:")))) query.set("project_source", value);
      }
      link.href = `${base}?${query}`;
    });
    link.addEventListener("click", async (event) => {
      if (!navigator.clipboard || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      try {
        await navigator.clipboard.writeText(link.href);
        link.textContent = "Link copied";
      } catch {
        window.location = link.href;
      }
    });
  };

  // What a new project begins with can be chosen for a new one only, an address given for a repository only.
  const beginnings = (form, typed) => {
    const begin = form.querySelector("#ds01-begin");
    const known = form.querySelector("[data-ds01-known]");
    if (!begin) return;
    const start = begin.querySelector("select");
    const git = begin.querySelector("[data-ds01-git]");
    const follow = () => {
      const name = typed.value.trim();
      const radios = [...form.querySelectorAll('input[name="project"]:not([data-ds01-new])')];
      const there = radios.some((radio) => radio.value === name);
      known.textContent = there ? `You have a project ${name} already: it opens as it is.` : "";
      begin.disabled = there || (!name && !form.querySelector('input[name="project"][data-ds01-new]:checked'));
      if (!git) return;
      const address = git.querySelector("input");
      git.hidden = start.value !== "git";
      address.disabled = git.hidden;
      address.required = !git.hidden;
    };
    form.addEventListener("input", follow);
    form.addEventListener("change", follow);
    follow();
  };

  // Typing a new project's name, or picking one from the list, takes back the other.
  const projects = (form) => {
    const typed = form.querySelector('input[name="project_new"]');
    if (!typed) return;
    let before = form.querySelector('input[name="project"]:checked');
    typed.addEventListener("input", () => {
      const picked = form.querySelector('input[name="project"]:checked');
      if (picked) before = picked;
      if (typed.value) for (const radio of form.querySelectorAll('input[name="project"]')) radio.checked = false;
      else if (before) before.checked = true;
    });
    form.addEventListener("change", (event) => {
      if (event.target.name === "project" && event.target.checked) typed.value = "";
    });
    beginnings(form, typed);
  };

  // Wait until the hub no longer lists the server whose API address is given, at most a minute and a half;
  // whether it said so.
  const gone = async (stop) => {
    const [, user, name] = stop.match(/^(.*\/users\/[^/]+)\/server(?:s\/(.*))?$/);
    const until = performance.now() + 90000;
    for (let tries = 0; performance.now() < until; tries += 1) {
      await new Promise((resolve) => window.setTimeout(resolve, tries < 4 ? 500 : 1000));
      try {
        const headers = { "X-XSRFToken": window.jhdata.xsrf_token };
        const answer = await fetch(user, { headers, signal: AbortSignal.timeout(10000) });
        if (!answer.ok) continue;
        const server = ((await answer.json()).servers || {})[decodeURIComponent(name || "")];
        if (!server || !(server.pending || server.ready)) return true;
      } catch {
        // The hub is away or slow. It was told already, so all there is to do is to ask again.
      }
    }
    return false;
  };

  const retire = () => {
    document.addEventListener("click", async (event) => {
      const opener = event.target.closest("a[data-ds01-dialog]");
      if (opener) {
        const dialog = document.getElementById(opener.dataset.ds01Dialog);
        if (dialog && dialog.showModal) {
          event.preventDefault();
          dialog.showModal();
        }
        return;
      }
      const button = event.target.closest("button[data-ds01-stop]");
      if (!button) return;
      button.disabled = true;
      const status = button.closest("dialog, .ds01").querySelector("[data-ds01-status]");
      try {
        const answer = await fetch(button.dataset.ds01Stop, {
          method: "DELETE",
          headers: { "X-XSRFToken": window.jhdata.xsrf_token },
        });
        if (!answer.ok) throw new Error((await answer.json()).message || answer.statusText);
        if (status) status.textContent = "Its programs are being asked to end…";
        if (await gone(button.dataset.ds01Stop)) {
          if (status) status.textContent = "Retired. Your files are kept.";
          window.location.assign(button.dataset.ds01Then || window.location.href);
          return;
        }
        if (status) status.textContent = "It was asked to end, but the hub has not said yet that it has. Your files are kept. Reload the page in a minute.";
        button.disabled = false;
      } catch (error) {
        if (status) status.textContent = `It could not be retired: ${error.message}`;
        button.disabled = false;
      }
    });
  };

  const start = () => {
    localise(document);
    filters(document);
    retire();
    for (const form of document.querySelectorAll("form")) {
      if (!form.querySelector("#ds01-launch")) continue;
      projects(form);
      share(form);
    }
    window.setInterval(() => localise(document), 30000);
    document.addEventListener("htmx:afterSwap", (event) => localise(event.detail.target));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
