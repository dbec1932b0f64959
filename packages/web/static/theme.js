// Runs before the page is drawn, so that a chosen theme does not flash in the other one.
try {
  const theme = localStorage.getItem("wrenn.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing follows the system.
}
