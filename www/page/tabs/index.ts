// The list of tabs, in the order of their buttons. A tab is added here, with a file beside this one and a panel in
// index.html.

import { ablation } from './ablation';
import { compare } from './compare';
import { contributions } from './contributions';
import { cost } from './cost';
import { layers } from './layers';
import type { Tab } from './tab';
import { time } from './time';

export const TABS: readonly Tab[] = [contributions, ablation, time, layers, cost, compare];
