// Parallel coordinates of all trials: brushed with the mouse on the chart, or with the fields below it; both say the same.
"use strict";
const parallel = (() => {
  const { data, css, round, cut, frame, tooltip } = kit;
  const { trials } = data;
  const axes = [...trials.axes, { name: data.metric, names: null, log: false, values: trials.score }];
  const ranges = axes.map(() => []); // of each axis, the [from, to] that are let pass; none: all
  const MOST = 10;
  let drawn = null;

  const passes = (at) => axes.every(({ values }, axis) => !ranges[axis].length ||
    (values[at] !== null && ranges[axis].some(([from, to]) => from <= values[at] && values[at] <= to)));
  const kept = () => trials.number.map((_, at) => at).filter(passes);
  const shown = (axis, value) => (axis.names ? axis.names[value] : round(value));

  // From cool to warm by the score's rank, so that a few bad trials do not leave one colour for all others.
  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const shade = (share) => {
    const [cool, warm] = [channels(css("--cool")), channels(css("--accent"))];
    return `rgb(${cool.map((part, at) => Math.round(part + share * (warm[at] - part))).join(",")})`;
  };

  const option = (width) => {
    const named = { color: css("--ink"), fontSize: 12, textBorderColor: css("--paper"), textBorderWidth: 3 };
    const upright = width < 640; // On a narrow page the axes lie one below the other.
    const count = trials.number.length;
    const order = trials.number.map((_, at) => at).reverse(); // The best are painted last, over the others.
    return frame({
      tooltip: { ...tooltip(), trigger: "item" },
      parallel: {
        layout: upright ? "vertical" : "horizontal", left: upright ? 26 : 50, right: upright ? 26 : 56, top: 40, bottom: upright ? 34 : 22,
        parallelAxisDefault: {
          nameLocation: "end", nameGap: 14, z: 6, nameTextStyle: named,
          areaSelectStyle: { width: upright ? 22 : 20, borderWidth: 1, borderColor: css("--accent"), color: css("--accent"), opacity: 0.22 },
          axisLine: { lineStyle: { color: css("--soft") } }, axisTick: { lineStyle: { color: css("--soft") } },
        },
      },
      parallelAxis: axes.map((axis, at) => ({
        dim: at, id: `axis${at}`, name: cut(axis.name, upright ? 30 : 16), realtime: true,
        inverse: at === axes.length - 1 && !data.maximize,
        axisLabel: { color: css("--ink"), textBorderColor: css("--paper"), textBorderWidth: 3, hideOverlap: true, fontSize: 11, formatter: axis.names ? (name) => cut(name, 12) : (value) => Number(value.toPrecision(2)).toString() },
        ...(axis.names ? { type: "category", data: axis.names }
          : { type: axis.log ? "log" : "value", scale: true, splitNumber: 4, minorTick: { show: false } }),
        ...(upright ? { nameTextStyle: { ...named, align: "right", verticalAlign: "bottom", padding: [0, 0, 10, 0] }, nameGap: 0 } : {}),
      })),
      series: [{
        type: "parallel", smooth: 0, progressive: 0, inactiveOpacity: 0.04, activeOpacity: count > 200 ? 0.5 : 0.85,
        tooltip: { formatter: (one) => [`Trial ${trials.number[order[one.dataIndex]]}`, ...axes.map((axis) => cut(`${axis.name}: ${shown(axis, axis.values[order[one.dataIndex]])}`, 60))].join("\n") },
        data: order.map((at) => ({
          value: axes.map(({ values }) => values[at] ?? "-"),
          lineStyle: trials.chosen.includes(at) ? { color: css("--ink"), width: 3, opacity: 1 }
            : { color: shade(1 - at / Math.max(1, count - 1)), width: count > 200 ? 1 : 1.6, opacity: count > 200 ? 0.35 : 0.7 },
        })),
      }],
    });
  };

  const element = (name, text = "", more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);

  // The number of trials kept, the range of their scores, and the best of them in the table.
  const tell = () => {
    const places = kept();
    const scores = places.map((at) => trials.score[at]);
    const best = places.length ? `; validation ${data.metric} ${round(Math.min(...scores))} to ${round(Math.max(...scores))}, best trial ${trials.number[places[0]]}` : "";
    document.getElementById("brushed").textContent = `${places.length.toLocaleString("en")} of ${trials.number.length.toLocaleString("en")} trials are kept${best}.`;
    const table = document.getElementById("kept");
    const head = element("tr");
    head.append(...["Trial", data.metric, ...axes.slice(0, -1).map((axis) => axis.name)].map((name) => element("th", name, { scope: "col" })));
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...places.slice(0, MOST).map((at) => {
      const row = element("tr");
      row.append(element("th", trials.number[at], { scope: "row" }), element("td", round(trials.score[at]), { className: "num" }),
        ...axes.slice(0, -1).map((axis) => element("td", shown(axis, axis.values[at]), { className: "num" })));
      return row;
    }));
  };

  const fields = [];
  const fill = () => fields.forEach(([from, to, ends], at) => {
    const flat = ranges[at].flat();
    from.value = flat.length ? near(Math.min(...flat), axes[at], ends) : from.dataset.all;
    to.value = flat.length ? near(Math.max(...flat), axes[at], ends) : to.dataset.all;
  });
  const near = (value, axis, [low, high]) => {
    const held = Math.min(high, Math.max(low, value));
    return axis.names ? String(Math.round(held)) : String(kit.near(held));
  };

  const build = () => {
    const form = document.querySelector("#brush form");
    axes.forEach((axis, at) => {
      const known = axis.values.filter((value) => value !== null);
      const ends = axis.names ? [0, axis.names.length - 1] : [Math.min(...known), Math.max(...known)];
      const set = element("fieldset");
      set.append(element("legend", axis.name));
      const pair = ["from", "to"].map((word, end) => {
        const label = element("label", `${word} `);
        const field = axis.names ? element("select") : element("input", "", { type: "number", step: "any" });
        if (axis.names) field.append(...axis.names.map((name, place) => element("option", name, { value: String(place) })));
        // Rounded outwards: the ends of an axis keep every trial.
        field.dataset.all = axis.names ? String(ends[end]) : String(outwards(ends[end], end));
        field.value = field.dataset.all;
        field.setAttribute("aria-label", `${axis.name}, ${word}`);
        field.addEventListener("change", () => limit(at));
        label.append(field);
        set.append(label);
        return field;
      });
      fields.push([...pair, ends]);
      form.append(set);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("unbrush").addEventListener("click", () => { axes.forEach((_, at) => select(at, [])); repaint(); });
    document.getElementById("brush").hidden = false;
    tell();
  };
  const outwards = (value, end) => {
    const step = 10 ** (Math.floor(Math.log10(Math.abs(value) || 1)) - 3);
    return Number(((end ? Math.ceil : Math.floor)(value / step) * step).toPrecision(5));
  };

  // What a field says becomes what the axis lets pass.
  const limit = (at) => {
    const [from, to] = fields[at].map((field) => field.value);
    const all = fields[at].slice(0, 2).every((field) => field.value === field.dataset.all || field.value === "");
    const ends = [from, to].map((value, end) => Number(value === "" ? fields[at][end].dataset.all : value)).sort((a, b) => a - b);
    select(at, all ? [] : [ends]);
    repaint();
  };
  const select = (at, intervals) => {
    ranges[at] = intervals;
    drawn.dispatchAction({ type: "axisAreaSelect", parallelAxisId: `axis${at}`, intervals });
  };
  // The chart paints what was dragged by itself; what fields say it paints with its next update.
  const repaint = () => { drawn.setOption({}); fill(); tell(); };

  // ECharts paints a range anew in its own colours once another axis is brushed: give it those of the page.
  const recolour = () => {
    for (const shape of drawn.getZr().storage.getDisplayList()) {
      if (shape.parent?.__brushOption && shape.name === "main" && shape.style.fill !== css("--accent")) {
        shape.setStyle({ fill: css("--accent"), stroke: css("--accent"), opacity: 0.22 });
      }
    }
  };

  const draw = (chart, width) => {
    if (!drawn) {
      drawn = chart;
      chart.on("rendered", recolour);
      chart.on("axisareaselected", (event) => {
        const at = axes.findIndex((_, place) => event.parallelAxisId === `axis${place}`);
        if (at < 0 || JSON.stringify(ranges[at]) === JSON.stringify(event.intervals ?? [])) return;
        ranges[at] = event.intervals ?? [];
        fill();
        tell();
      });
      build();
    }
    chart.setOption(option(width), true);
    ranges.forEach((intervals, at) => { if (intervals.length) select(at, intervals); });
    if (ranges.some((intervals) => intervals.length)) chart.setOption({});
  };
  const height = (width) => (width < 640 ? 62 * axes.length + 40 : 420);
  return { draw, height, kept: () => kept().length };
})();
