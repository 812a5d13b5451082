// Draws the charts, and again whenever width, colours or medium change. Everything drawn here also stands in a table on the page.
"use strict";
(() => {
  const made = new Map();
  const cost = document.getElementById("cost");
  const rows = { baselines: kit.data.baselines, importance: kit.data.importance };

  const draw = () => {
    for (const holder of document.querySelectorAll("[data-chart]")) {
      const kind = holder.dataset.chart;
      if (rows[kind]) holder.style.height = `${rows[kind].length * 34 + 60}px`;
      if (kind === "parallel") holder.style.height = `${parallel.height(holder.clientWidth)}px`;
      if (!made.has(kind)) {
        made.set(kind, echarts.init(holder, null, { renderer: "canvas", devicePixelRatio: Math.max(2, window.devicePixelRatio) }));
      }
      const chart = made.get(kind);
      chart.resize();
      if (kind === "parallel") parallel.draw(chart, holder.clientWidth);
      else if (kind === "costs") chart.setOption(charts.costs(holder.clientWidth, cost ? Number(cost.value) : 0), true);
      else chart.setOption(charts.builders[kind](holder.clientWidth), true);
    }
  };
  draw();
  if (cost) {
    cost.closest("[hidden]").hidden = false;
    cost.addEventListener("change", draw);
  }
  redraw(draw, "details:not([open]):not(#filters)");
})();
