// The dashboard as a page: Grafana's components, laid out as its JSON says.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { dateTime, EventBusSrv, ThemeContext } from '@grafana/data';
import {
  BarGauge, BigValue, GlobalStyles, PanelChrome, PanelContextProvider, TimeSeries,
} from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { frames, last, name, theme, values } from './data.js';
import dashboard from '../../../../../envoy-config/grafana/mtls-watch.json';

// Grafana's grid: a row is 30 pixels high, and 8 lie between two.
const WIDTH = 1600, UNIT = 38, GAP = 8, MARGIN = 16;
const { from, to, rows } = window.mtlsWatch;
const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: '', to: '' } };

const Stat = ({ panel, data, ...size }) => {
  const field = data[0] && values(data[0])[0];
  const value = field ? field.display(last(field)) : { text: panel.fieldConfig.defaults.noValue ?? 'No data', numeric: NaN };
  const { colorMode, graphMode, justifyMode, textMode } = panel.options;
  return <BigValue {...size} theme={theme} value={{ ...value, title: '' }} {...{ colorMode, graphMode, justifyMode, textMode }} />;
};

const Bars = ({ panel, data, width, height }) => {
  const bars = data.flatMap((frame) => values(frame).map((field) => {
    const value = field.display(last(field));
    return { field, value: { ...value, title: name(field, frame, data) } };
  }));
  const numbers = bars.map(({ value }) => value.numeric);
  const each = Math.min(36, (height - 4) / bars.length);
  const longest = (key) => bars.reduce((found, { value }) => (value[key].length > found.length ? value[key] : found), '');
  // The most letters are not the widest word: hence one more.
  const alignmentFactors = { text: longest('text'), title: `${longest('title')}mm` };
  return bars.map(({ field, value }, i) => (
    <div key={i} style={{ height: each }}>
      <BarGauge theme={theme} width={width} height={each - 6} value={value} display={field.display} orientation="horizontal"
        field={{ min: 0, max: Math.max(1, ...numbers), ...field.config }} displayMode={panel.options.displayMode}
        valueDisplayMode={panel.options.valueMode} showUnfilled namePlacement={panel.options.namePlacement}
        alignmentFactors={alignmentFactors} text={{ titleSize: 13, valueSize: 13 }} />
    </div>
  ));
};

const Graph = ({ panel, data, width, height }) => (
  <TimeSeries frames={data} width={width} height={height} timeRange={timeRange} timeZone="utc" legend={panel.options.legend} options={{}} />
);

const Table = ({ panel, data, width, height }) => (data[0]?.length
  ? <TableNG data={data[0]} width={width} height={height} cellHeight={panel.options.cellHeight} timeRange={timeRange} fieldConfig={panel.fieldConfig} />
  : <div style={{ textAlign: 'center', paddingTop: 40 }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>);

const DRAWN_BY = { stat: Stat, bargauge: Bars, timeseries: Graph, table: Table };

const Panel = ({ panel, data }) => {
  const { x, y, w, h } = panel.gridPos;
  const column = (WIDTH - 2 * MARGIN) / 24;
  const box = { position: 'absolute', left: MARGIN + x * column, top: MARGIN + y * UNIT };
  const width = w * column - GAP, height = h * UNIT - GAP;
  if (panel.type === 'row') {
    return <div style={{ ...box, fontSize: 16, fontWeight: 500, lineHeight: `${UNIT}px` }}>{panel.title}</div>;
  }
  const Drawn = DRAWN_BY[panel.type];
  return (
    <div style={box}>
      <PanelChrome title={panel.title} width={width} height={height} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(innerWidth, innerHeight) => <Drawn panel={panel} data={data} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
};

const wanted = [];
let inside = false;
for (const panel of dashboard.panels) {
  if (panel.type === 'row') inside = rows.includes(panel.title);
  if (inside) wanted.push(panel);
}
const data = await Promise.all(wanted.map((panel) => (panel.type === 'row' ? null : frames(panel))));
// Rows that are left out leave no gap.
let shift = 0, end = 0;
const placed = wanted.map((panel) => {
  if (panel.type === 'row') shift = end - panel.gridPos.y;
  const y = panel.gridPos.y + shift;
  end = Math.max(end, y + panel.gridPos.h);
  return { ...panel, gridPos: { ...panel.gridPos, y } };
});
document.body.style.cssText = `margin: 0; width: ${WIDTH}px; height: ${end * UNIT + 2 * MARGIN}px; background: ${theme.colors.background.canvas}`;
const context = { eventBus: new EventBusSrv(), eventsScope: 'global', sync: () => 0 };
createRoot(document.getElementById('page')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PanelContextProvider value={context}>
      {placed.map((panel, i) => <Panel key={panel.id} panel={panel} data={data[i]} />)}
    </PanelContextProvider>
  </ThemeContext.Provider>,
);
