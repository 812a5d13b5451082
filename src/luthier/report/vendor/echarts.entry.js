// What the report uses of ECharts; `README.md` says how the file that reports carry is made from this one.
import { init, use } from "echarts/core";
import { BarChart, LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import {
  GridComponent, LegendScrollComponent, MarkAreaComponent, MarkLineComponent, ParallelComponent, TooltipComponent,
} from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

use([
  BarChart, LineChart, ParallelChart, ScatterChart, CanvasRenderer,
  GridComponent, LegendScrollComponent, MarkAreaComponent, MarkLineComponent, ParallelComponent, TooltipComponent,
]);

export { init };
