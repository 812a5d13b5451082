// One function a kind of chart, from the page's data to ECharts' options. Parallel coordinates have a file of their own.
"use strict";
const charts = (() => {
  const { data, css, colours, near, round, cut, axis, frame, legend, chosen, ring, uprights, band } = kit;
  const labelWidth = (width) => Math.min(220, Math.round(width * 0.36));
  const plot = { left: 62, right: 18, top: 44, bottom: 46 };
  const metric = () => axis({ type: "value", name: `validation ${data.metric}`, nameGap: 44, scale: true });

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

  const settingsOf = (at) => data.trials.axes.slice(0, 8).map(({ name, names, values }) =>
    cut(`${name}: ${names ? names[values[at]] : round(values[at])}`, 60));

  // Scores against what a trial or its network takes: a point a trial, the front joined, the most that was allowed as a line.
  const costs = (width, at) => {
    const trials = data.trials;
    const cost = trials.costs[at];
    const known = trials.number.map((_, index) => index).filter((index) => cost.values[index] !== null);
    const xs = known.map((index) => cost.values[index]);
    const wide = Math.min(...xs) > 0 && Math.max(...xs) > 30 * Math.min(...xs);
    const tip = (one) => {
      const index = one.data.index;
      return [`Trial ${trials.number[index]}${trials.chosen.includes(index) ? " (chosen)" : ""}${cost.front.includes(index) ? ", on the front" : ""}`,
        `${data.metric} ${round(trials.score[index])}, ${cost.name} ${round(cost.values[index])}`, ...settingsOf(index)].join("\n");
    };
    const of = (places) => places.map((index) => ({ value: [cost.values[index], trials.score[index]], index }));
    const kinds = [...new Set(trials.kind)];
    const palette = colours();
    const series = kinds.map((kind, place) => ({
      type: "scatter", name: kind, symbolSize: trials.number.length > 300 ? 6 : 9, tooltip: { formatter: tip },
      itemStyle: { color: palette[place % palette.length], opacity: 0.75 },
      data: of(known.filter((index) => trials.kind[index] === kind && !trials.chosen.includes(index))),
    }));
    series.push({
      type: "line", name: "front", step: cost.joint ? false : "end", symbolSize: 10, z: 4, tooltip: { formatter: tip },
      ...ring(css("--ink")), lineStyle: { color: css("--ink"), width: 1.4, type: cost.joint ? "dotted" : "solid" }, data: of(cost.front),
    });
    series.push(chosen({ tooltip: { formatter: tip }, data: of(trials.chosen.filter((index) => cost.values[index] !== null)) }));
    if (cost.limit !== null) {
      series[0].markLine = {
        silent: true, symbol: "none", data: [{ xAxis: cost.limit }], label: { formatter: "allowed", color: css("--soft"), position: "insideEndBottom" },
        lineStyle: { color: css("--soft"), type: "dashed" },
      };
    }
    return frame({
      grid: plot, legend: legend(), series, yAxis: metric(),
      xAxis: axis({ type: wide ? "log" : "value", name: cost.name, scale: true, max: wide || cost.limit === null ? null : (range) => Math.max(range.max, cost.limit) }),
    });
  };

  const lines = (fields, name) => {
    const palette = colours();
    const last = Math.max(...data.curves.flatMap((curve) => curve.epoch));
    const colour = (curve, at) => (curve.chosen ? css("--accent") : palette[(at - 1 + palette.length) % palette.length]);
    const series = data.curves.flatMap((curve, at) => fields.map(([field, type]) => ({
      type: "line", name: `trial ${curve.trial}`, z: curve.chosen ? 5 : 2, showSymbol: curve.epoch.length < 25, symbolSize: curve.chosen ? 6 : 4,
      ...(type === "dashed" ? ring(colour(curve, at)) : { symbol: "circle", itemStyle: { color: colour(curve, at) } }),
      lineStyle: { color: colour(curve, at), type, width: curve.chosen ? 2.6 : 1.4, opacity: curve.chosen ? 1 : 0.8 },
      data: curve.epoch.map((epoch, index) => [epoch, curve[field][index]]),
      tooltip: { formatter: (one) => `Trial ${curve.trial}, epoch ${one.value[0]}\n${field.replace("_", " ")} ${round(one.value[1])}` },
    })));
    return frame({
      grid: { left: 56, right: 14, top: 40, bottom: 46 }, legend: legend({ itemWidth: 18 }), series,
      xAxis: axis({ type: "value", name: "epoch", min: last > 1 ? 1 : 0, max: Math.max(last, 2), minInterval: 1 }),
      yAxis: axis({ type: "value", name, nameGap: 42, scale: true }),
    });
  };

  // How sure against how right; where the model's confidence is honest the points lie on the dashed line.
  const calibration = () => {
    const bins = data.calibration.bins;
    const most = Math.max(...bins.map((bin) => bin.n));
    const low = Math.max(0, Math.floor(10 * Math.min(...bins.flatMap((bin) => [bin.x, bin.y, bin.interval[0] ?? 1])) - 0.001) / 10);
    return frame({
      grid: { left: 58, right: 22, top: 14, bottom: 46 },
      xAxis: axis({ type: "value", name: "confidence", min: low, max: 1 }),
      yAxis: axis({ type: "value", name: "share that is right", nameGap: 40, min: low, max: 1 }),
      series: [
        { type: "line", silent: true, symbol: "none", data: [[low, low], [1, 1]], lineStyle: { color: css("--soft"), type: "dashed", width: 1.2 } },
        {
          type: "line", symbol: "circle", data: bins.map((bin) => ({ value: [bin.x, bin.y], symbolSize: 7 + 9 * Math.sqrt(bin.n / most) })),
          itemStyle: { color: css("--accent") }, lineStyle: { color: css("--accent"), width: 1.6 }, markLine: uprights(bins, css("--ink")),
          tooltip: { formatter: (one) => `confidence ${round(bins[one.dataIndex].x)}\nright ${round(bins[one.dataIndex].y)}, 95% interval ${bins[one.dataIndex].interval.map(round).join(" to ")}\n${bins[one.dataIndex].n} answers` },
        },
      ],
    });
  };

  // The metric by the number of training rows, on a scale of ratios, and on to twice as many.
  const sizes = () => {
    const { x, y, low, high, twice } = data.sizes;
    const points = x.map((rows, at) => ({ x: rows, interval: [low[at], high[at]] }));
    const ends = [...low, ...high, ...y, ...(twice ? [twice.y, ...twice.interval] : [])].filter((end) => end !== null);
    const room = 0.06 * (Math.max(...ends) - Math.min(...ends)) || 1;
    const tip = (one) => `${one.value[0].toLocaleString("en")} rows\n${data.metric} ${round(one.value[1])}`;
    const series = [{
      type: "line", name: "measured", symbol: "circle", symbolSize: 7, data: x.map((rows, at) => [rows, y[at]]), tooltip: { formatter: tip },
      itemStyle: { color: css("--cool") }, lineStyle: { width: 2 }, markLine: uprights(points, css("--cool")),
    }];
    if (twice) {
      series.push({
        type: "line", name: "extrapolated to twice the rows", symbolSize: 9, z: 4, tooltip: { formatter: tip },
        ...ring(css("--accent")), lineStyle: { color: css("--accent"), type: "dashed", width: 2 },
        data: [[x.at(-1), y.at(-1)], [twice.x, twice.y]], markLine: uprights([twice], css("--accent")),
      });
    }
    return frame({
      grid: { ...plot, left: 66, right: 26 }, legend: legend({ itemWidth: 22 }), series,
      xAxis: axis({ type: "log", logBase: 2, name: "training rows", min: x[0], max: twice ? twice.x : x.at(-1), axisLabel: { color: css("--soft"), hideOverlap: true, formatter: (rows) => Math.round(rows).toLocaleString("en") } }),
      yAxis: axis({
        type: "value", name: data.metric, nameGap: 46, min: Math.min(...ends) - room, max: Math.max(...ends) + room,
        axisLabel: { color: css("--soft"), showMinLabel: false, showMaxLabel: false, formatter: round },
      }),
    });
  };

  // Places of a curve's cells without a trial, as [from, to] halfway to the neighbours.
  const gaps = (curve) => {
    const middle = (a, b) => (curve.log ? Math.sqrt(a * b) : (a + b) / 2);
    const found = [];
    curve.counts.forEach((count, at) => {
      if (count) return;
      const from = at ? middle(curve.at[at - 1], curve.at[at]) : curve.at[at];
      const to = at + 1 < curve.at.length ? middle(curve.at[at], curve.at[at + 1]) : curve.at[at];
      if (found.length && found.at(-1)[1] === from) found.at(-1)[1] = to;
      else found.push([from, to]);
    });
    return found;
  };

  // The score along one setting: solid where trials were, dotted over shaded ground where it is a guess.
  const along = (curve) => {
    const known = curve.counts.map((count) => count > 0);
    const ends = [...curve.low, ...curve.high].filter((end) => end !== null);
    const [bottom, top] = [Math.min(...ends), Math.max(...ends)];
    const floor = bottom - 0.18 * (top - bottom || 1);
    const most = Math.max(...curve.counts, 1);
    const tip = (one) => {
      const at = one.dataIndex;
      return `${curve.name} ${curve.ranged ? round(curve.at[at]) : curve.at[at]}\n${data.metric} ${round(curve.value[at])}, from ${round(curve.low[at])} to ${round(curve.high[at])}\n` +
        (curve.counts[at] ? `${curve.counts[at]} trials` : "no trials: a guess");
    };
    const xs = curve.ranged ? curve.at : curve.at.map((_, at) => at);
    const marks = {
      type: "scatter", silent: true, symbol: "rect", itemStyle: { color: css("--soft"), opacity: 0.8 }, z: 1,
      data: xs.map((x, at) => ({ value: [x, floor], symbolSize: [3, curve.counts[at] ? 3 + 15 * curve.counts[at] / most : 0], symbolOffset: [0, "-50%"] })),
      tooltip: { show: false },
    };
    const base = {
      grid: { left: 52, right: 14, top: 10, bottom: 30 },
      yAxis: axis({ type: "value", min: floor, max: top + 0.04 * (top - bottom || 1), axisLabel: { color: css("--soft"), hideOverlap: true, showMinLabel: false, showMaxLabel: false, formatter: round } }),
    };
    if (!curve.ranged) {
      const points = xs.map((x, at) => ({ x, interval: [curve.low[at], curve.high[at]] }));
      return frame({
        ...base, xAxis: axis({ type: "category", data: curve.at, splitLine: { show: false }, axisLabel: { color: css("--ink"), interval: 0, hideOverlap: true, width: 70, overflow: "truncate" } }),
        series: [
          { type: "scatter", symbolSize: 9, itemStyle: { color: css("--cool") }, data: curve.value.map((value, at) => [at, value]), markLine: uprights(points, css("--cool")), tooltip: { formatter: tip } },
          marks,
        ],
      });
    }
    // A cell next to a guess belongs to both lines, so that they meet.
    const guess = (at) => !known[at] || known[at - 1] === false || known[at + 1] === false;
    return frame({
      ...base,
      xAxis: axis({ type: curve.log ? "log" : "value", min: curve.at[0], max: curve.at.at(-1), splitLine: { show: false }, splitNumber: 3, axisLabel: { color: css("--soft"), hideOverlap: true, showMinLabel: true, formatter: (x) => Number(x.toPrecision(2)).toString() } }),
      series: [
        ...band(xs, curve.low, curve.high, css("--cool")),
        {
          type: "line", symbol: "none", data: xs.map((x, at) => [x, guess(at) ? curve.value[at] : null]), lineStyle: { type: "dotted", width: 2, color: css("--soft") }, tooltip: { show: false },
          markArea: { silent: true, itemStyle: { color: css("--soft"), opacity: 0.13 }, data: gaps(curve).map(([from, to]) => [{ xAxis: from }, { xAxis: to }]) },
        },
        { type: "line", symbol: "circle", symbolSize: 4, data: xs.map((x, at) => [x, known[at] ? curve.value[at] : null]), itemStyle: { color: css("--cool") }, lineStyle: { width: 2 }, tooltip: { formatter: tip } },
        marks,
      ],
    });
  };

  const builders = {
    baselines: (width) => whiskers(data.baselines, width, data.metric, (row) =>
      `${data.metric} ${round(row.value)}, 95% interval ${round(row.interval[0])} to ${round(row.interval[1])}`),
    importance: (width) => whiskers(data.importance, width, "share of the score’s variance", (row) =>
      `share ${round(row.value)}, from ${round(row.interval[0])} to ${round(row.interval[1])}`),
    loss: () => lines([["loss", "solid"], ["train_loss", "dashed"]], "loss"),
    score: () => lines([["score", "solid"]], data.metric),
    calibration, sizes,
    ...Object.fromEntries(data.along.map((curve, at) => [`along${at}`, () => along(curve)])),
  };
  return { builders, costs };
})();
