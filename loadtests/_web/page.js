// The panel as a page of its own, with the table that Locust's tab shows above it.
import { show } from "./panel.js";

show(document.getElementById("trackbench"), ".", { table: true });
