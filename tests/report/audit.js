(() => {
  const faults = [];
  const box = (e) => e.getBoundingClientRect();
  const named = (e) => `<${e.tagName.toLowerCase()} class="${e.className}"> ${e.textContent.trim().slice(0, 30)}`;
  const drawn = (e) => box(e).width > 1 && box(e).height > 1 && !e.closest(".hidden, .skip");
  const style = (e) => getComputedStyle(e);

  function layout() {
    const wide = document.documentElement.scrollWidth;
    if (wide > innerWidth) faults.push(`the page is ${wide} px wide in a window of ${innerWidth}`);
    for (const parent of [document.body, ...document.body.querySelectorAll("*")]) {
      const blocks = [...parent.children].filter(
        (e) => drawn(e) && !style(e).display.startsWith("inline") && style(e).position !== "absolute");
      blocks.forEach((a, i) => blocks.slice(i + 1).forEach((b) => {
        const [p, q] = [box(a), box(b)];
        const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (across > 1 && down > 1) faults.push(`${named(a)} overlaps ${named(b)}`);
      }));
    }
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode, e = text.parentElement;
      if (!text.data.trim() || !drawn(e) || e.closest("thead") && box(e.closest("thead")).width <= 1) continue;
      const range = document.createRange();
      range.selectNodeContents(text);
      for (const r of range.getClientRects()) {
        for (let up = e; up; up = up.parentElement) {
          if (style(up).overflowX === "visible" && up !== document.documentElement) continue;
          const edge = up === document.documentElement ? { left: 0, right: innerWidth } : box(up);
          if (r.left < edge.left - 1 || r.right > edge.right + 1) faults.push(`cut: ${named(e)}`);
          break;
        }
      }
      const [ink, paper] = [style(e).color, behind(e)];
      if (contrast(ink, paper) < 4.5) faults.push(`contrast ${contrast(ink, paper).toFixed(1)}: ${named(e)}`);
    }
  }

  function behind(e) {
    for (; e; e = e.parentElement) {
      const paper = style(e).backgroundColor;
      if (paper !== "rgba(0, 0, 0, 0)") return paper;
    }
    return "rgb(255, 255, 255)";
  }

  // WCAG 2.2, "relative luminance" and "contrast ratio"
  const luminance = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  function contrast(a, b) {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  }

  layout();
  document.querySelectorAll("details").forEach((e) => { e.open = true; });
  layout();
  for (const image of document.images) {
    if (!image.complete || !image.naturalWidth) faults.push(`not drawn: ${image.alt}`);
    if (!image.alt) faults.push("a picture without a text");
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    if (!document.getElementById(link.hash.slice(1))) faults.push(`leads nowhere: ${link.hash}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => faults.push(`twice: #${id}`));
  return [...new Set(faults)];
})();
