// From a panel's queries to the data frames that Grafana's panels draw: what its Prometheus data source
// and its dashboard do, with the same transformations and field options.
import {
  applyFieldOverrides, cacheFieldDisplayNames, createTheme, FieldConfigOptionsRegistry, FieldType, getDisplayProcessor,
  identityOverrideProcessor, numberOverrideProcessor, standardTransformers, standardTransformersRegistry,
  thresholdsOverrideProcessor, transformDataFrame, unitOverrideProcessor, valueMappingsOverrideProcessor,
  displayNameOverrideProcessor, standardFieldConfigEditorRegistry, toDataFrame, getFieldDisplayName,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';

export const theme = createTheme({ colors: { mode: 'dark' } });

const transformers = ['organizeFieldsTransformer', 'mergeTransformer', 'sortByTransformer'];
standardTransformersRegistry.setInit(() => transformers.map((name) => {
  const info = standardTransformers[name];
  return { id: info.id, name: info.name, transformation: () => Promise.resolve(info), editor: () => null };
}));

const standard = {
  unit: unitOverrideProcessor, decimals: numberOverrideProcessor, min: numberOverrideProcessor,
  max: numberOverrideProcessor, displayName: displayNameOverrideProcessor, noValue: identityOverrideProcessor,
  color: identityOverrideProcessor, thresholds: thresholdsOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
};
const custom = ['cellOptions', 'width', 'minWidth', 'align', 'drawStyle', 'lineWidth', 'fillOpacity', 'showPoints', 'stacking',
  'axisPlacement', 'lineInterpolation', 'spanNulls'];
const option = (path, process, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, name: path, process, isCustom,
  shouldApply: () => true, editor: () => null, override: () => null, getItemsCount: () => 0,
});
const registry = new FieldConfigOptionsRegistry(() => [
  ...Object.entries(standard).map(([path, process]) => option(path, process, false)),
  ...custom.map((path) => option(path, identityOverrideProcessor, true)),
]);
standardFieldConfigEditorRegistry.setInit(() => Object.entries(standard).map(([path, process]) => option(path, process, false)));

const { prometheus, from, to, step, range } = window.mtlsWatch; // from main.rs

const interpolated = (query) => query
  .replaceAll('$__rate_interval', '15s').replaceAll('$__range', range)
  .replaceAll(/\$(cluster|namespace|identity)/g, '.*');

async function ask(target) {
  const query = encodeURIComponent(interpolated(target.expr));
  const path = target.instant ? `query?query=${query}&time=${to}`
    : `query_range?query=${query}&start=${from}&end=${to}&step=${step}`;
  const reply = await (await fetch(`${prometheus}/api/v1/${path}`)).json();
  if (reply.status !== 'success') throw new Error(`${target.expr}: ${reply.error}`);
  return reply.data.resultType === 'scalar' ? [{ metric: {}, value: reply.data.result }] : reply.data.result;
}

const legend = (target, metric) =>
  target.legendFormat?.replaceAll(/{{(\w+)}}/g, (_, label) => metric[label] ?? '') ?? '';

// One frame a query: the labels are columns.
function table(target, series, several) {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))];
  const column = (name, values, type = FieldType.string) => ({ name, type, values, config: {} });
  return [toDataFrame({ refId: target.refId, fields: [
    column('Time', series.map(({ value }) => value[0] * 1000), FieldType.time),
    ...labels.map((label) => column(label, series.map(({ metric }) => metric[label] ?? ''))),
    column(several ? `Value #${target.refId}` : 'Value', series.map(({ value }) => Number(value[1])), FieldType.number),
  ] })];
}

// One frame a series.
function graph(target, series) {
  return series.map(({ metric, value, values }) => toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: (values ?? [value]).map(([time]) => time * 1000), config: {} },
    { name: 'Value', type: FieldType.number, values: (values ?? [value]).map(([, number]) => Number(number)),
      labels: metric, config: { displayNameFromDS: legend(target, metric) } },
  ] }));
}

// The buckets of a histogram, in order, and what each has alone.
function buckets(target, series) {
  const bound = ({ metric }) => (metric.le === '+Inf' ? Infinity : Number(metric.le));
  const sorted = [...series].sort((a, b) => bound(a) - bound(b));
  const alone = sorted.map((one, i) => {
    const below = i ? Number(sorted[i - 1].value[1]) : 0;
    return { ...one, value: [one.value[0], String(Math.max(0, Number(one.value[1]) - below))] };
  });
  return graph(target, alone);
}

export async function frames(panel) {
  const several = panel.targets.length > 1;
  const replies = await Promise.all(panel.targets.map(ask));
  const raw = panel.targets.flatMap((target, i) => {
    if (target.format === 'table') return table(target, replies[i], several);
    return target.format === 'heatmap' ? buckets(target, replies[i]) : graph(target, replies[i]);
  });
  const transformed = await firstValueFrom(transformDataFrame(panel.transformations ?? [], raw));
  const data = applyFieldOverrides({
    data: transformed, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry, theme,
    replaceVariables: (text) => text, timeZone: 'utc',
  });
  cacheFieldDisplayNames(data);
  for (const frame of data) {
    for (const field of frame.fields) field.display ??= getDisplayProcessor({ field, theme });
  }
  return data;
}

export const values = (frame) => frame.fields.filter((field) => field.type === FieldType.number);
export const last = (field) => field.values[field.values.length - 1];
export const name = (field, frame, all) => getFieldDisplayName(field, frame, all);
