// Draws the report's charts from the data block. Everything drawn here also stands in a table on the page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const charts = new Map();
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colours = () => ["--p1", "--p2", "--p3", "--p4", "--p5", "--p6", "--p7"].map(css);
  const near = (value) => Number(value.toPrecision(4));
  const round = (value) => (value === null ? "–" : near(value).toString());
  const cut = (text, most) => (text.length > most ? [...text].slice(0, most - 1).join("") + "…" : text);

  const axis = (more) => ({
    nameTextStyle: { color: css("--soft") }, nameGap: 28, nameLocation: "middle",
    axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: css("--line") } },
    axisLabel: { color: css("--soft"), hideOverlap: true }, ...more,
  });
  const frame = (more) => ({
    animation: false, textStyle: { fontFamily: css("--sans") },
    // Rich text: labels are painted, never parsed as HTML.
    tooltip: {
      renderMode: "richText", confine: true, backgroundColor: css("--raised"), borderColor: css("--line"),
      textStyle: { color: css("--ink"), fontSize: 13 },
    },
    ...more,
  });
  const labelWidth = (width) => Math.min(220, Math.round(width * 0.36));

  // Horizontal bars, each with a line from the low to the high end of its interval.
  const whiskers = (rows, width, name, value) => {
    const room = labelWidth(width);
    const ends = rows.flatMap((row) => [row.interval[0], row.interval[1], row.value]).filter((end) => end !== null);
    const low = Math.min(0, ...ends);
    const step = 10 ** Math.floor(Math.log10(Math.max(...ends) - low || 1)) / 2;
    const lines = rows.flatMap((row, at) => (row.interval[0] === null ? [] : [[
      { coord: [row.interval[0], at], symbol: "rect", symbolSize: [2, 9], symbolRotate: 0 },
      { coord: [row.interval[1], at], symbol: "rect", symbolSize: [2, 9], symbolRotate: 0 },
    ]]));
    const paint = (row) => ({ color: row.chosen ? css("--accent") : css("--cool"), opacity: 0.75 });
    return frame({
      grid: { left: room + 14, right: 24, top: 8, bottom: 44 },
      xAxis: axis({ type: "value", name, min: near(Math.floor(low / step) * step), max: near(Math.ceil(Math.max(...ends) / step) * step) }),
      yAxis: axis({
        type: "category", inverse: true, data: rows.map((row) => row.name), splitLine: { show: false },
        axisLabel: { color: css("--ink"), width: room, overflow: "truncate", interval: 0 },
      }),
      series: [{
        type: "bar", barMaxWidth: 18, data: rows.map((row) => ({ value: row.value, itemStyle: paint(row) })),
        markLine: { silent: true, symbol: "none", data: lines, lineStyle: { color: css("--ink"), width: 1.6, type: "solid" }, label: { show: false } },
        tooltip: { formatter: (one) => `${cut(rows[one.dataIndex].name, 60)}\n${value(rows[one.dataIndex])}` },
      }],
    });
  };

  const builders = {
    baselines: (width) => whiskers(data.baselines, width, data.metric, (row) =>
      `${data.metric} ${round(row.value)}, 95% interval ${round(row.interval[0])} to ${round(row.interval[1])}`),
    importance: (width) => whiskers(
      data.importance.map((row) => ({ name: row.name, value: row.share, interval: [row.low, row.high] })), width,
      "share of the score’s variance", (row) => `share ${round(row.value)}, from ${round(row.interval[0])} to ${round(row.interval[1])}`),
    scatter: () => {
      const seconds = data.scatter.map((point) => point.x).filter((x) => x > 0);
      const wide = seconds.length === data.scatter.length && Math.max(...seconds) > 30 * Math.min(...seconds);
      const kinds = [...new Set(data.scatter.map((point) => point.kind))];
      const palette = colours();
      const tip = (one) => {
        const point = one.data.point;
        return [`Trial ${point.trial}${point.chosen ? " (chosen)" : ""}`, `${data.metric} ${round(point.y)}, ${round(point.x)} s`,
          ...point.text.map((line) => cut(line, 60))].join("\n");
      };
      const series = kinds.map((kind, at) => ({
        type: "scatter", name: kind, symbolSize: data.scatter.length > 300 ? 6 : 9, tooltip: { formatter: tip },
        itemStyle: { color: palette[at % palette.length], opacity: 0.75 },
        data: data.scatter.filter((point) => point.kind === kind && !point.chosen).map((point) => ({ value: [point.x, point.y], point })),
      }));
      series.push({
        type: "scatter", name: "chosen", symbol: "diamond", symbolSize: 17, z: 5, tooltip: { formatter: tip },
        itemStyle: { color: css("--accent"), borderColor: css("--raised"), borderWidth: 1.5 },
        data: data.scatter.filter((point) => point.chosen).map((point) => ({ value: [point.x, point.y], point })),
      });
      return frame({
        grid: { left: 62, right: 18, top: 44, bottom: 46 },
        legend: { type: "scroll", top: 4, left: 0, textStyle: { color: css("--ink") }, pageTextStyle: { color: css("--soft") }, itemHeight: 10, itemWidth: 14 },
        xAxis: axis({ type: wide ? "log" : "value", name: "seconds" }),
        yAxis: axis({ type: "value", name: `validation ${data.metric}`, nameGap: 44, scale: true }),
        series,
      });
    },
    ...Object.fromEntries(data.fronts.filter((front) => front.points.length).map((front, at) => [`front${at}`, () => against(front)])),
    loss: () => lines([["loss", "solid"], ["train_loss", "dashed"]], "loss"),
    score: () => lines([["score", "solid"]], data.metric),
  };

  // Scores against what a network takes: a point a trial, the front joined, the most that was allowed as a line.
  const against = (front) => {
    const xs = front.points.map((point) => point.x);
    const wide = Math.min(...xs) > 0 && Math.max(...xs) > 30 * Math.min(...xs);
    const tip = (one) => {
      const point = one.data.point;
      return `Trial ${point.trial}${point.chosen ? " (chosen)" : ""}\n${data.metric} ${round(point.y)}, ${front.name} ${round(point.x)}\n${cut(point.model, 60)}`;
    };
    const of = (points) => points.map((point) => ({ value: [point.x, point.y], point }));
    const members = front.points.filter((point) => point.front).sort((a, b) => a.x - b.x);
    const limit = front.limit === null ? {} : {
      markLine: {
        silent: true, symbol: "none", data: [{ xAxis: front.limit }], label: { formatter: "allowed", color: css("--soft"), position: "insideEndBottom" },
        lineStyle: { color: css("--soft"), type: "dashed" },
      },
    };
    const series = [
      { type: "scatter", name: "trials", symbolSize: 9, tooltip: { formatter: tip }, itemStyle: { color: css("--cool"), opacity: 0.75 }, data: of(front.points.filter((point) => !point.front && !point.chosen)), ...limit },
      {
        type: "line", name: "front", step: "end", symbol: "circle", symbolSize: 9, z: 4, tooltip: { formatter: tip },
        itemStyle: { color: css("--p2") }, lineStyle: { width: 1.6 }, data: of(members),
      },
      {
        type: "scatter", name: "chosen", symbol: "diamond", symbolSize: 17, z: 5, tooltip: { formatter: tip },
        itemStyle: { color: css("--accent"), borderColor: css("--raised"), borderWidth: 1.5 }, data: of(front.points.filter((point) => point.chosen)),
      },
    ];
    return frame({
      grid: { left: 62, right: 18, top: 44, bottom: 46 },
      legend: { type: "scroll", top: 4, left: 0, textStyle: { color: css("--ink") }, pageTextStyle: { color: css("--soft") }, itemHeight: 10, itemWidth: 14 },
      xAxis: axis({ type: wide ? "log" : "value", name: front.name, scale: true, max: wide || front.limit === null ? null : (range) => Math.max(range.max, front.limit) }),
      yAxis: axis({ type: "value", name: `validation ${data.metric}`, nameGap: 44, scale: true }),
      series,
    });
  };

  const lines = (fields, name) => {
    const palette = colours();
    const last = Math.max(...data.curves.flatMap((curve) => curve.epoch));
    const series = data.curves.flatMap((curve, at) => fields.map(([field, type]) => ({
      type: "line", name: `trial ${curve.trial}`, z: curve.chosen ? 5 : 2, showSymbol: curve.epoch.length < 25, symbolSize: curve.chosen ? 6 : 4,
      symbol: type === "dashed" ? "emptyCircle" : "circle",
      itemStyle: { color: curve.chosen ? css("--accent") : palette[(at - 1 + palette.length) % palette.length] },
      lineStyle: { type, width: curve.chosen ? 2.6 : 1.4, opacity: curve.chosen ? 1 : 0.8 },
      data: curve.epoch.map((epoch, index) => [epoch, curve[field][index]]),
      tooltip: { formatter: (one) => `Trial ${curve.trial}, epoch ${one.value[0]}\n${field.replace("_", " ")} ${round(one.value[1])}` },
    })));
    return frame({
      grid: { left: 56, right: 14, top: 40, bottom: 46 },
      legend: { type: "scroll", top: 2, left: 0, textStyle: { color: css("--ink") }, pageTextStyle: { color: css("--soft") }, itemWidth: 18 },
      xAxis: axis({ type: "value", name: "epoch", min: last > 1 ? 1 : 0, max: Math.max(last, 2), minInterval: 1 }),
      yAxis: axis({ type: "value", name, nameGap: 42, scale: true }),
      series,
    });
  };

  const draw = () => {
    for (const holder of document.querySelectorAll("[data-chart]")) {
      const kind = holder.dataset.chart;
      const rows = { baselines: data.baselines, importance: data.importance }[kind];
      if (rows) holder.style.height = `${rows.length * 34 + 60}px`;
      if (!charts.has(kind)) {
        charts.set(kind, echarts.init(holder, null, { renderer: "canvas", devicePixelRatio: Math.max(2, window.devicePixelRatio) }));
      }
      charts.get(kind).resize();
      charts.get(kind).setOption(builders[kind](holder.clientWidth), true);
    }
  };
  let pending = 0;
  const later = () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(draw); };
  draw();
  window.addEventListener("resize", later);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);
  // On paper the style sheet is light and narrow: draw for it, then for the screen again.
  window.matchMedia("print").addEventListener("change", draw);
  window.addEventListener("beforeprint", draw);
  window.addEventListener("afterprint", draw);
})();
