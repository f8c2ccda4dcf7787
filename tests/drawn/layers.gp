reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 233,248 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 486,517 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 2.4306in,2.5833in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
set output 'layers'.'.'.format.suffix
set lmargin at screen 0.29714
set rmargin at screen 0.77714
set tmargin at screen 0.94624
set bmargin at screen 0.19355
unset key
set border 3 linewidth 0.5
set tics out nomirror scale 0.5 font ',6.5'
set grid ytics linecolor rgb '#dddddd' linewidth 0.5
set datafile missing 'nan'
set yrange [0:*]
set xrange [-0.5:2.5]
set xtics 0,1
set xlabel 'layer' font ',7' offset 0,0.7
set ylabel 'dist' noenhanced font ',7' offset 1,0
set label 1 'uniform' at graph 1, first 2.5 left offset 0.5,0 font ',6.5' textcolor rgb '#777777'
plot 'layers.tsv' using 1:2 with linespoints pointtype 7 pointsize 0.5 linewidth 1.2 linecolor rgb '#0072b2', 2.5 with lines linewidth 0.8 dashtype 2 linecolor rgb '#777777', '' using 1:3 with points pointtype 6 pointsize 0.35 linewidth 0.7 linecolor rgb '#d55e00', '' using 1:4 with points pointtype 6 pointsize 0.35 linewidth 0.7 linecolor rgb '#d55e00'
unset output
}
