'use strict';

// The theme: that of the system, light or dark; kept where the browser lets us.

const THEMES = ['auto', 'light', 'dark'];

function applyTheme(theme) {
  if (theme === 'auto') {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
}

function storedTheme() {
  // Some browsers refuse storage to pages of file://.
  try {
    const theme = localStorage.getItem('lrm-report-theme');
    return THEMES.includes(theme) ? theme : 'auto';
  } catch {
    return 'auto';
  }
}

function keepTheme(theme) {
  try {
    localStorage.setItem('lrm-report-theme', theme);
  } catch {
    // It holds until the page is closed.
  }
}

// Before anything is painted.
applyTheme(storedTheme());

document.addEventListener('DOMContentLoaded', () => {
  const button = document.getElementById('theme');
  let theme = storedTheme();
  const show = () => { button.textContent = `Theme: ${theme}`; };
  show();
  button.hidden = false;
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    applyTheme(theme);
    keepTheme(theme);
    show();
  });
});
