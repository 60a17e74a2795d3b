// What a dashboard of ours may be: Grafana's published types, with the literals of its enumerations as JSON has them, and the options
// of each kind of panel instead of "anything".
import type { Dashboard, FieldConfig, Panel, RowPanel } from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as states from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as curves from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** A type as JSON writes it: an enumeration is its values. */
type Plain<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends number
      ? number extends T
        ? number
        : `${T}` extends `${infer N extends number}`
          ? N
          : T
      : T extends boolean | null | undefined
        ? T
        : T extends readonly (infer Item)[]
          ? Plain<Item>[]
          : { [Key in keyof T]: Plain<T[Key]> };

/** A question to Prometheus. Its type is in no package of Grafana's. */
interface Target {
  refId: string;
  datasource: { type: 'prometheus'; uid: string };
  editorMode: 'code' | 'builder';
  expr: string;
  legendFormat: string;
  format: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  range: boolean;
}

interface PanelOf<Type extends string, Options, Custom> extends Plain<
  Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>
> {
  id: number;
  type: Type;
  title: string;
  description: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: Target[];
  options: Plain<Options>;
  fieldConfig: {
    defaults: Plain<Omit<FieldConfig, 'custom'>> & { custom: Plain<Custom> };
    overrides: { matcher: { id: 'byName'; options: string }; properties: { id: string; value: unknown }[] }[];
  };
}

type AnyPanel =
  | Plain<RowPanel>
  | PanelOf<'stat', stat.Options, object>
  | PanelOf<'bargauge', bargauge.Options, object>
  | PanelOf<'timeseries', curves.Options, curves.FieldConfig>
  | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | PanelOf<'table', table.Options, table.FieldConfig>
  | PanelOf<'state-timeline', states.Options, states.FieldConfig>;

/** What Prometheus' annotations have besides. */
interface Annotations {
  list: (Plain<NonNullable<NonNullable<Dashboard['annotations']>['list']>[number]> & {
    expr?: string;
    titleFormat?: string;
    textFormat?: string;
    tagKeys?: string;
    useValueForTime?: boolean;
    step?: string;
  })[];
}

/** What Grafana's own editor writes for a query's variable besides. */
interface Templating {
  list: (Plain<NonNullable<NonNullable<Dashboard['templating']>['list']>[number]> & { definition?: string })[];
}

export type Shipped = Plain<Omit<Dashboard, 'panels' | 'annotations' | 'templating'>> & {
  panels: AnyPanel[];
  annotations: Annotations;
  templating: Templating;
};
