// handlebars.js with the helpers of this project, as a process: a request a line, an answer a line.
'use strict';

const readline = require('node:readline');
const Handlebars = require('handlebars');

const text = value => value == null ? '' : String(value);
const empty = value => Handlebars.Utils.isEmpty(value);
const scalar = value => value == null || typeof value !== 'object';
const same = (left, right) => left === right || (scalar(left) && scalar(right) && left == right);
const formats = {
  YYYY: date => String(date.getUTCFullYear()).padStart(4, '0'),
  MM: date => String(date.getUTCMonth() + 1).padStart(2, '0'),
  DD: date => String(date.getUTCDate()).padStart(2, '0'),
};

const isoDate = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/;

function formatDate(value, pattern) {
  const date = new Date(value);
  if (isNaN(date) || !(typeof value === 'number' || isoDate.test(value))) return value;
  if (arguments.length === 2) return date.toLocaleDateString('en-US', { timeZone: 'UTC' });
  return text(pattern).replace(/YYYY|MM|DD/g, part => formats[part](date));
}

Handlebars.registerHelper({
  uppercase: value => text(value).toUpperCase(),
  lowercase: value => text(value).toLowerCase(),
  capitalize: value => text(value).slice(0, 1).toUpperCase() + text(value).slice(1),
  default: (value, fallback) => empty(value) ? fallback : value,
  formatDate,
  ifEquals: function (left, right, options) { return same(left, right) ? options.fn(this) : options.inverse(this); },
  ifNotEquals: function (left, right, options) { return same(left, right) ? options.inverse(this) : options.fn(this); },
});

const escapeHtml = Handlebars.Utils.escapeExpression;

function render({ source, variables, html }) {
  // The option noEscape would add up numbers that stand side by side.
  Handlebars.Utils.escapeExpression = html ? escapeHtml : text;
  try {
    return { text: Handlebars.compile(source)(variables) };
  } catch (error) {
    return { error: String(error) };
  }
}

readline.createInterface({ input: process.stdin }).on('line', line => {
  process.stdout.write(`${JSON.stringify(render(JSON.parse(line)))}\n`);
});
