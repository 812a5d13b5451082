// The charts of the page of monitoring, drawn again whenever width, colours or medium change.
"use strict";
(() => {
  const { data, css, colours, round, axis, frame, legend, uprights, band, cut } = kit;
  const when = (x) => new Date(x).toISOString().slice(0, 16).replace("T", " ");
  const time = (ends) => axis({
    type: "time", useUTC: true, min: ends[0], max: ends[0] === ends.at(-1) ? ends[0] + 1 : ends.at(-1),
    splitLine: { show: false }, splitNumber: 3,
  });

  // The metric of each window, over a band where the tested one lies.
  const course = () => {
    const { points, tested, metric } = data.course;
    const xs = points.map((point) => point.x);
    const ends = xs.length > 1 ? xs : [xs[0], xs[0] + 1];
    const values = [tested.low, tested.high, ...points.flatMap((point) => [point.y, ...point.interval])].filter((end) => end !== null);
    const room = 0.06 * (Math.max(...values) - Math.min(...values)) || 1;
    return frame({
      useUTC: true, grid: { left: 58, right: 22, top: 40, bottom: 34 }, legend: legend({ data: [metric, "tested"] }), xAxis: time(ends),
      yAxis: axis({
        type: "value", min: Math.min(...values) - room, max: Math.max(...values) + room,
        axisLabel: { color: css("--soft"), showMinLabel: false, showMaxLabel: false, formatter: round },
      }),
      series: [
        ...band(ends, ends.map(() => tested.low), ends.map(() => tested.high), css("--cool")),
        { type: "line", name: "tested", symbol: "none", silent: true, data: ends.map((x) => [x, tested.value]), itemStyle: { color: css("--cool") }, lineStyle: { color: css("--cool"), type: "dashed", width: 1.4 } },
        {
          type: "line", name: metric, symbol: "circle", symbolSize: 7, data: points.map((point) => [point.x, point.y]),
          itemStyle: { color: css("--accent") }, lineStyle: { color: css("--accent"), width: 1.8 }, markLine: uprights(points, css("--accent")),
          tooltip: { formatter: (one) => `until ${when(one.value[0])} UTC\n${metric} ${round(one.value[1])}, 95% interval ${points[one.dataIndex].interval.map(round).join(" to ")}\n${points[one.dataIndex].n} requests, by ${points[one.dataIndex].by}` },
        },
      ],
    });
  };

  // How far each window is from the test rows.
  const change = () => {
    const palette = colours();
    const lines = data.change.lines;
    return frame({
      useUTC: true, grid: { left: 50, right: 22, top: 40, bottom: 34 }, legend: legend(), xAxis: time(lines.flatMap((line) => line.points.map((point) => point[0])).sort((a, b) => a - b)),
      yAxis: axis({ type: "value", min: 0, axisLabel: { color: css("--soft"), formatter: round } }),
      series: lines.map((line, at) => ({
        type: "line", name: cut(line.name, 40), symbol: "circle", symbolSize: 6, data: line.points, itemStyle: { color: palette[at % palette.length] }, lineStyle: { width: 1.6 },
        tooltip: { formatter: (one) => `until ${when(one.value[0])} UTC\n${cut(line.name, 60)} ${round(one.value[1])}` },
      })),
    });
  };

  // Shares of classes, two bars each.
  const shares = (width) => {
    const rows = data.shares.rows;
    const room = Math.min(220, Math.round(width * 0.36));
    const bars = (name, field, colour) => ({
      type: "bar", name, barMaxWidth: 12, itemStyle: { color: colour, opacity: 0.8 }, data: rows.map((row) => row[field]),
      tooltip: { formatter: (one) => `${cut(rows[one.dataIndex].name, 60)}\ntested ${round(rows[one.dataIndex].tested)}, now ${round(rows[one.dataIndex].now)}` },
    });
    return frame({
      grid: { left: room + 14, right: 24, top: 36, bottom: 34 }, legend: legend(), xAxis: axis({ type: "value", min: 0 }),
      yAxis: axis({
        type: "category", inverse: true, data: rows.map((row) => row.name), splitLine: { show: false },
        axisLabel: { color: css("--ink"), width: room, overflow: "truncate", interval: 0 },
      }),
      series: [bars("tested", "tested", css("--cool")), bars("now", "now", css("--accent"))],
    });
  };

  const builders = { course, change, shares };
  const made = new Map();
  const draw = () => {
    for (const holder of document.querySelectorAll("[data-chart]")) {
      const kind = holder.dataset.chart;
      if (kind === "shares") holder.style.height = `${data.shares.rows.length * 34 + 80}px`;
      if (!made.has(kind)) made.set(kind, echarts.init(holder, null, { renderer: "canvas", devicePixelRatio: Math.max(2, window.devicePixelRatio) }));
      made.get(kind).resize();
      made.get(kind).setOption(builders[kind](holder.clientWidth), true);
    }
  };
  draw();
  redraw(draw, "details:not([open])");
})();
