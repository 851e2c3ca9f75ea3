"use strict";
// What the page does beyond showing: filters over single images, a search over all classes, and what tables that are
// wider than the page need. Text from data only ever becomes textContent.
(() => {
  const $ = (id) => document.getElementById(id);
  const folded = (text) => text.normalize("NFKD").toLowerCase();

  const gallery = $("gallery-filters");
  if (gallery) {
    const cards = [...document.querySelectorAll("#gallery > li")].map((card) => ({
      card,
      kinds: card.dataset.kinds.split(" "),
      classes: [...card.querySelectorAll("[data-class]")].map((at) => at.dataset.class),
      text: folded(card.textContent),
    }));
    const filter = () => {
      const kind = $("gallery-kind").value, name = $("gallery-class").value, words = folded($("gallery-text").value.trim());
      let shown = 0;
      for (const one of cards) {
        const fits = (!kind || one.kinds.includes(kind)) && (!name || one.classes.includes(name)) && one.text.includes(words);
        one.card.hidden = !fits;
        shown += fits;
      }
      $("gallery-count").textContent = `${shown} of ${cards.length} shown`;
    };
    gallery.hidden = false;
    gallery.addEventListener("input", filter);
    gallery.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }

  const search = $("class-filters");
  if (search) {
    const most = 50;
    const rows = JSON.parse($("class-data").textContent).map((row) => ({ row, key: folded(row[0]) }));
    const body = $("class-found").tBodies[0];
    const cell = (text, kind) => Object.assign(document.createElement("td"), { textContent: text, className: kind });
    const share = (a, b) => (b ? Math.round((100 * a) / b).toString() : "–");
    const named = (tag, text) => {
      const at = document.createElement(tag), name = document.createElement("bdi");
      name.textContent = text;
      at.append(name);
      return at;
    };
    const find = () => {
      const words = folded($("class-text").value.trim());
      const found = words ? rows.filter((one) => one.key.includes(words)) : [];
      body.replaceChildren(
        ...found.slice(0, most).map(({ row: [name, n, right, answered, confused, often] }) => {
          const line = document.createElement("tr"), head = named("th", name);
          head.scope = "row";
          line.append(
            head, cell(n, "number"), cell(share(right, n), "number"), cell(share(right, answered), "number"),
            named("td", confused), cell(often || "", "number"),
          );
          return line;
        }),
      );
      $("class-found").hidden = !found.length;
      $("class-count").textContent = !words ? "" : found.length > most
        ? `${found.length} classes, ${most} shown` : `${found.length} ${found.length === 1 ? "class" : "classes"}`;
    };
    search.hidden = false;
    search.addEventListener("input", find);
    search.addEventListener("submit", (event) => event.preventDefault());
  }

  // A table that fits needs no stop of the keyboard; one that goes on to the right shows a shadow there.
  const look = (at) => {
    const over = at.scrollWidth - at.clientWidth;
    if (over > 1) at.tabIndex = 0; else at.removeAttribute("tabindex");
    at.classList.toggle("more", over - at.scrollLeft > 1);
  };
  const wide = [...document.querySelectorAll(".wide")], lookAtAll = () => wide.forEach(look);
  for (const at of wide) at.addEventListener("scroll", () => look(at), { passive: true });
  addEventListener("resize", lookAtAll);
  document.addEventListener("toggle", lookAtAll, true); // of a <details>
  document.addEventListener("input", lookAtAll);
  lookAtAll();

  // A browser that cannot open a closed <details> by style alone has it opened for the time of printing.
  const closed = new Set();
  addEventListener("beforeprint", () => {
    for (const at of document.querySelectorAll("details:not([open])")) { closed.add(at); at.open = true; }
  });
  addEventListener("afterprint", () => { for (const at of closed) at.open = false; closed.clear(); });
})();
