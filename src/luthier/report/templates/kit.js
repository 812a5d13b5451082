// What every chart of the report is made of: its data, colours that follow the page's, and the look of axes and frames.
"use strict";
const kit = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colours = () => ["--p1", "--p2", "--p3", "--p4", "--p5", "--p6", "--p7"].map(css);
  const near = (value) => Number(value.toPrecision(4));
  const round = (value) => (value === null ? "–" : near(value).toString());
  const cut = (text, most) => (text.length > most ? [...text].slice(0, most - 1).join("") + "…" : text);

  const axis = (more) => ({
    nameTextStyle: { color: css("--soft") }, nameGap: 28, nameLocation: "middle",
    axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: css("--line") } },
    minorTick: { show: false }, axisLabel: { color: css("--soft"), hideOverlap: true }, ...more,
  });
  // Rich text: labels are painted, never parsed as HTML.
  const tooltip = () => ({
    renderMode: "richText", confine: true, backgroundColor: css("--raised"), borderColor: css("--line"),
    textStyle: { color: css("--ink"), fontSize: 13 },
  });
  const frame = (more) => ({ animation: false, textStyle: { fontFamily: css("--sans") }, tooltip: tooltip(), ...more });
  const legend = (more) => ({
    type: "scroll", top: 4, left: 0, textStyle: { color: css("--ink"), lineHeight: 18 }, pageTextStyle: { color: css("--soft") },
    pageIconColor: css("--accent"), pageIconInactiveColor: css("--line"), itemHeight: 10, itemWidth: 14, ...more,
  });
  // A diamond that stands out: the chosen trial.
  const chosen = (more) => ({
    type: "scatter", name: "chosen", symbol: "diamond", symbolSize: 17, z: 5,
    itemStyle: { color: css("--accent"), borderColor: css("--raised"), borderWidth: 1.5 }, ...more,
  });

  // Points that are drawn as rings, on whatever ground the page has.
  const ring = (colour) => ({ symbol: "circle", itemStyle: { color: css("--paper"), borderColor: colour, borderWidth: 1.6 } });

  // Vertical lines from the low to the high end of each point's interval.
  const uprights = (points, colour) => ({
    silent: true, symbol: "none", label: { show: false }, lineStyle: { color: colour, width: 1.4, type: "solid" },
    data: points.filter((point) => point.interval[0] !== null && point.interval[1] !== null).map((point) => [
      { coord: [point.x, point.interval[0]], symbol: "rect", symbolSize: [9, 1.6], symbolRotate: 0 },
      { coord: [point.x, point.interval[1]], symbol: "rect", symbolSize: [9, 1.6], symbolRotate: 0 },
    ]),
  });

  // A band between two lines, as two stacked areas of which only the upper is painted.
  const band = (xs, lows, highs, colour) => [
    { type: "line", stack: "band", stackStrategy: "all", symbol: "none", silent: true, lineStyle: { opacity: 0 }, data: xs.map((x, at) => [x, lows[at]]), tooltip: { show: false } },
    {
      type: "line", stack: "band", stackStrategy: "all", symbol: "none", silent: true, lineStyle: { opacity: 0 }, areaStyle: { color: colour, opacity: 0.16 },
      data: xs.map((x, at) => [x, lows[at] === null || highs[at] === null ? null : highs[at] - lows[at]]), tooltip: { show: false },
    },
  ];

  return { data, css, colours, near, round, cut, axis, frame, tooltip, legend, chosen, ring, uprights, band };
})();
