/* Cards: where the pointer or the keyboard rests on the link of a term, a claim, a citation, a figure or an equation,
   a card says what it is. What stands on this page is copied from it, the rest comes from cards.js, asked for once. */
(() => {
  const root = new URL("..", document.currentScript.src);
  let asked, shown = null, timer;
  const data = () => asked ??= new Promise((done) => {
    const script = Object.assign(document.createElement("script"), { src: new URL("_static/cards.js", root), onload: () => done(window.bookCards) });
    document.head.append(script);
  });

  const copied = (link) => {
    const target = link.pathname === location.pathname ? document.getElementById(decodeURIComponent(link.hash.slice(1))) : null;
    if (!target?.matches("figure, div.math")) return null;
    const copy = target.cloneNode(true);
    copy.querySelector(".figure-data")?.remove();
    for (const part of [copy, ...copy.querySelectorAll("[id]")]) part.removeAttribute("id");
    for (const sign of copy.querySelectorAll(".headerlink, a")) sign.replaceWith(...sign.childNodes);
    return copy;
  };
  const told = async (link) => {
    const html = (await data())[link.href.slice(root.href.length)];
    return html && Object.assign(document.createElement("div"), { innerHTML: html });
  };

  const hide = () => {
    clearTimeout(timer);
    shown?.link.removeAttribute("aria-describedby");
    shown?.card.remove();
    shown = null;
  };
  const show = async (link) => {
    const content = copied(link) ?? await told(link);
    if (!content || !(link.matches(":hover") || link === document.activeElement)) return;
    hide();
    const card = Object.assign(document.createElement("div"), { id: "hover-card", className: "hover-card bd-article" });
    card.setAttribute("role", "tooltip");
    card.append(content);
    document.body.append(card);
    const at = link.getBoundingClientRect(), room = document.documentElement.clientWidth - card.offsetWidth - 8;
    const below = at.bottom + card.offsetHeight + 8 < innerHeight;
    card.style.left = `${scrollX + Math.max(8, Math.min(at.left, room))}px`;
    card.style.top = `${scrollY + (below ? at.bottom + 4 : Math.max(8, at.top - card.offsetHeight - 4))}px`;
    card.addEventListener("mouseleave", hide);
    link.setAttribute("aria-describedby", "hover-card");
    shown = { link, card };
    if (content.querySelector(".math:not(:has(mjx-container))")) window.MathJax?.typesetPromise?.([card]);
  };
  const told_of = (event) => event.target.closest?.(".bd-article a[href]");

  document.addEventListener("mouseover", (event) => {
    if (event.target.closest?.(".hover-card")) return clearTimeout(timer);
    const link = told_of(event);
    clearTimeout(timer);
    if (link) timer = setTimeout(() => link !== shown?.link && show(link), 150);
    else if (shown && shown.link !== document.activeElement) timer = setTimeout(hide, 200);
  });
  document.addEventListener("focusin", (event) => {
    const link = told_of(event);
    if (link?.matches(":focus-visible")) show(link);
    else hide();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
})();
